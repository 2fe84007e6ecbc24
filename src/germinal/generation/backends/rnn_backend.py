"""The backend of recurrent models: a slot keeps states instead of keys and values.

A state summarizes all tokens before it and cannot be truncated, so a slot keeps its token ids and the state after every
chunk. A sequence that shares a shorter prefix starts from the last state within it, and runs the remaining tokens of
the prefix again. A chunk is run in two parts, split where logits are first needed, because further answers to the same
prompt start near there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from germinal.errors import UnsupportedError
from germinal.generation.backends.backend import NUM_SLOTS, Chunk, StepBatch
from germinal.models.rnn import RNNLanguageModel, State


@dataclass(slots=True)
class _Slot:
    """The past of one sequence.

    Attributes:
        ids: Its tokens.
        states: By number of tokens, the state after them, of tensors [L, D].
    """

    ids: list[int] = field(default_factory=list)
    states: dict[int, State] = field(default_factory=dict)

    def cut(self, length: int) -> _Slot:
        """The past up to `length` tokens."""
        return _Slot(self.ids[:length], {end: state for end, state in self.states.items() if end <= length})


@dataclass(frozen=True, slots=True)
class _Part:
    """The tokens from `start` to `end` of a slot, to be run. The slot has a state at `start`, unless that is 0."""

    slot: _Slot
    start: int
    end: int

    @property
    def ids(self) -> Tensor:
        return torch.tensor(self.slot.ids[self.start : self.end])


class RNNBackend:
    """Runs an `RNNLanguageModel` for the engine.

    Args:
        network: The network; its device and precision are used.
        num_slots: Number of sequences held at the same time.
    """

    def __init__(self, network: RNNLanguageModel, num_slots: int = NUM_SLOTS) -> None:
        self.network = network
        self.num_slots = num_slots
        self.context_window = network.config.max_position_embeddings
        self._slots = [_Slot() for _ in range(num_slots)]

    def encode(self, batch: StepBatch) -> None:
        """See `Backend.encode`.

        Raises:
            UnsupportedError: always.
        """
        raise UnsupportedError("a recurrent language model has no encoder.")

    @torch.inference_mode()
    def forward(self, batch: StepBatch) -> Tensor:
        """See `Backend.forward`.

        Raises:
            UnsupportedError: a chunk uses an adapter.
        """
        before = [self._before(chunk) for chunk in batch]
        self._run([part for part in before if part.start < part.end])
        wanted = [
            _Part(part.slot, part.end, chunk.end) for part, chunk in zip(before, batch, strict=True) if chunk.num_logits
        ]
        hidden_states = self._run(wanted)
        if not hidden_states:
            return torch.empty(0, self.network.config.vocab_size, device=self.network.device)
        return self.network.logits(torch.cat(hidden_states)).float()

    def _before(self, chunk: Chunk) -> _Part:
        """Append a chunk's tokens to its slot. Returns those that must run before the first one that needs logits."""
        if chunk.adapter is not None:
            raise UnsupportedError("a recurrent model has no adapters.", where=f"adapter '{chunk.adapter}'")
        slot = self._slots[chunk.slot].cut(chunk.start)
        assert len(slot.ids) == chunk.start, "the tokens before a chunk have not been computed"
        slot.ids.extend(chunk.token_ids)
        self._slots[chunk.slot] = slot
        return _Part(slot, max(slot.states, default=0), chunk.end - chunk.num_logits)

    def _run(self, parts: Sequence[_Part]) -> list[Tensor]:
        """Run parts as one batch, keep the state after each, and return their hidden states, [T, D] each."""
        if not parts:
            return []
        ids = pad_sequence([part.ids for part in parts], batch_first=True).to(self.network.device)  # [B, T]
        lengths = torch.tensor([part.end - part.start for part in parts])
        hidden_states, after = self.network.advance(ids, self._stacked(parts), lengths)
        for row, part in enumerate(parts):
            # A view would keep the whole batch alive.
            part.slot.states[part.end] = tuple(tensor[:, row].clone() for tensor in after)
        return [states[:length] for states, length in zip(hidden_states, lengths.tolist(), strict=True)]

    def _stacked(self, parts: Sequence[_Part]) -> State:
        """The states that parts start from, [L, B, D]."""
        zeros = tuple(tensor[:, 0] for tensor in self.network.initial_state(1))
        states = [part.slot.states.get(part.start, zeros) for part in parts]
        return tuple(torch.stack(tensors, 1) for tensors in zip(*states, strict=True))

    def reserve(self, capacity: int) -> None:
        """See `Backend.reserve`. The size of a state does not depend on the number of tokens."""

    def fork(self, source: int, target: int, length: int) -> None:
        """See `Backend.fork`. Both slots share the states, which are never overwritten."""
        self._slots[target] = self._slots[source].cut(length)

    def weights_changed(self) -> None:
        """See `Backend.weights_changed`. The tokens of running sequences are run again."""
        for slot in self._slots:
            slot.states.clear()
