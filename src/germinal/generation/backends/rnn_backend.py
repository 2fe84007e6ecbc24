"""The backend of recurrent models: a slot holds states where a Transformer's holds keys and values.

A state stands for all tokens before it and cannot be cut shorter, so that a slot keeps those after every chunk, and its
token ids. A sequence that begins in the middle of what a slot has computed starts from the last state before that, and
runs the few tokens between again. A prompt is run in two parts, up to where logits are wanted and from there on: that
is where the other answers to the same prompt begin.
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
    """One sequence's past.

    Attributes:
        ids: Its tokens.
        states: The state after so many of them, [L, D] each.
    """

    ids: list[int] = field(default_factory=list)
    states: dict[int, State] = field(default_factory=dict)

    def cut(self, length: int) -> _Slot:
        """The same, of the first `length` tokens."""
        return _Slot(self.ids[:length], {end: state for end, state in self.states.items() if end <= length})


@dataclass(frozen=True, slots=True)
class _Part:
    """Tokens of a slot to run: those from `start`, after which it has a state or which is 0, to `end`."""

    slot: _Slot
    start: int
    end: int

    @property
    def ids(self) -> Tensor:
        return torch.tensor(self.slot.ids[self.start : self.end])


class RNNBackend:
    """Runs an `RNNLanguageModel` for the engine.

    Args:
        network: The network, on its device and in its precision.
        num_slots: Sequences held at once.
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
            UnsupportedError: a chunk is to go through an adapter.
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
        """Take a chunk's tokens into its slot, and say which have to run before the first wanted logits."""
        if chunk.adapter is not None:
            raise UnsupportedError("a recurrent model takes no adapters.", where=f"adapter '{chunk.adapter}'")
        slot = self._slots[chunk.slot].cut(chunk.start)
        assert len(slot.ids) == chunk.start, "the tokens before a chunk have not been computed"
        slot.ids.extend(chunk.token_ids)
        self._slots[chunk.slot] = slot
        return _Part(slot, max(slot.states, default=0), chunk.end - chunk.num_logits)

    def _run(self, parts: Sequence[_Part]) -> list[Tensor]:
        """Run parts side by side, keep the state after each, and return their hidden states, [T, D] each."""
        if not parts:
            return []
        ids = pad_sequence([part.ids for part in parts], batch_first=True).to(self.network.device)  # [B, T]
        lengths = torch.tensor([part.end - part.start for part in parts])
        hidden_states, after = self.network.advance(ids, self._stacked(parts), lengths)
        for row, part in enumerate(parts):
            # A copy: a view would keep the whole batch alive.
            part.slot.states[part.end] = tuple(tensor[:, row].clone() for tensor in after)
        return [states[:length] for states, length in zip(hidden_states, lengths.tolist(), strict=True)]

    def _stacked(self, parts: Sequence[_Part]) -> State:
        """The states that parts start from, [L, B, D]."""
        zeros = tuple(tensor[:, 0] for tensor in self.network.initial_state(1))
        states = [part.slot.states.get(part.start, zeros) for part in parts]
        return tuple(torch.stack(tensors, 1) for tensors in zip(*states, strict=True))

    def reserve(self, capacity: int) -> None:
        """See `Backend.reserve`. A state takes the same room however many tokens it stands for."""

    def fork(self, source: int, target: int, length: int) -> None:
        """See `Backend.fork`. States are never written over, so that both slots may hold the same."""
        self._slots[target] = self._slots[source].cut(length)

    def weights_changed(self) -> None:
        """See `Backend.weights_changed`. A sequence that is running has its tokens run anew."""
        for slot in self._slots:
            slot.states.clear()
