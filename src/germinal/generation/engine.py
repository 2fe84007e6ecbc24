"""The engine: runs sequences step by step, for generation, scoring, evaluation and the server alike.

In one step the scheduler selects sequences, the backend computes logits for their tokens, and the logits either score
given tokens or choose new ones, by sampling or beam search. The engine sees token ids only and is not thread-safe.

Shapes: N logits of a step, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from germinal.errors import SettingError
from germinal.generation.backends.backend import Backend
from germinal.generation.beam_search import BeamSearches
from germinal.generation.sampler import check_finite, choose_batch
from germinal.generation.scheduler import MAX_STEP_TOKENS, Scheduled, Scheduler
from germinal.generation.sequence import FinishReason, Sequence
from germinal.generation.slots import SlotManager


class Engine:
    """Runs sequences on a backend.

    Args:
        backend: Runs the network.
        max_step_tokens: Limit of the tokens computed in one step.
    """

    def __init__(self, backend: Backend, max_step_tokens: int = MAX_STEP_TOKENS) -> None:
        self._backend = backend
        self._slots = SlotManager(backend.num_slots, backend.fork)
        self._scheduler = Scheduler(self._slots, max_step_tokens)
        self._searches = BeamSearches(self._slots, backend.context_window)

    @property
    def has_work(self) -> bool:
        """Whether `step` would do anything."""
        return self._scheduler.has_work

    def add(self, sequence: Sequence) -> None:
        """Queue a sequence. Its forks start once its prompt has been computed.

        Raises:
            ContextWindowError: the sequence or a fork does not fit the model's context window.
            SettingError: it needs more beams than the backend has slots.
        """
        window, num_slots = self._backend.context_window, self._backend.num_slots
        for each in (sequence, *sequence.forks):
            each.check_fits(window)
        if sequence.num_beams > num_slots:
            raise SettingError(
                f"{sequence.num_beams} beams are more than the {num_slots} sequences that can run at the same time.",
                where="num_beams",
            )
        self._backend.reserve(min(window, max(each.most_tokens for each in (sequence, *sequence.forks))))
        self._scheduler.add((sequence,) if sequence.num_beams == 1 else self._searches.begin(sequence))

    def cancel(self, sequence: Sequence) -> None:
        """End a sequence and its forks. Their slots are free in the next step."""
        for each in (sequence, *sequence.forks):
            if not each.finished:
                self.finish(each, "cancelled")

    def finish(self, sequence: Sequence, reason: FinishReason) -> None:
        """End one sequence for a reason outside the engine, such as a stop string in its text."""
        sequence.finish_reason = reason
        self._remove(sequence)

    def weights_changed(self) -> None:
        """Tell the engine that the network or an adapter was changed, so that no later sequence reuses cached prefixes.

        Running sequences continue from the keys and values that they have.
        """
        self._slots.weights_changed()
        self._backend.weights_changed()

    @torch.inference_mode()
    def step(self) -> list[Sequence]:
        """Run one step.

        Returns:
            The sequences that got a token or a score, or ended. A beam search gives its whole answer when it ends.
        """
        scheduled = self._scheduler.schedule()
        if not scheduled:
            return []
        if inputs := [part.encoder_input for part in scheduled if part.encoder_input is not None]:
            self._backend.encode(inputs)
        logits = self._backend.forward([part.chunk for part in scheduled])  # [N, V]
        for part in scheduled:
            self._scheduler.computed(part)
        changed = self._extend(scheduled, logits)
        for part in scheduled:
            for fork in part.starting_forks:
                self._scheduler.fork(part.sequence, fork)
        for sequence in changed:
            if sequence.finished:
                self._remove(sequence)
        return changed

    def _extend(self, scheduled: list[Scheduled], logits: Tensor) -> list[Sequence]:
        """Extend sequences by the tokens or scores that the logits [N, V] of a step give; returns these sequences."""
        scored: list[Sequence] = []
        drawing: dict[Sequence, int] = {}
        found: list[Sequence] = []
        for sequence, rows in _readers(scheduled):
            if sequence.target_ids is not None:
                _score(sequence, logits[rows])
                scored.append(sequence)
            elif sequence in self._searches:
                found += self._searches.advance(sequence, logits[rows.start])
            else:
                drawing[sequence] = rows.start
        if drawing:
            self._draw(drawing, logits)
        return [*scored, *drawing, *found]

    def _draw(self, rows: dict[Sequence, int], logits: Tensor) -> None:
        """Choose the next token of each sequence from its row of the logits."""
        numbers = list(rows.values())
        wanted = logits if numbers == list(range(len(logits))) else logits[numbers]
        tokens = choose_batch(wanted, [each.sampler for each in rows], [each.token_ids for each in rows])
        for sequence, token in zip(rows, tokens, strict=True):
            sequence.append(token, self._backend.context_window)

    def _remove(self, sequence: Sequence) -> None:
        """Free the slot of a sequence, or those of all beams of its search."""
        for each in (sequence, *self._searches.end(sequence)):
            self._scheduler.remove(each)


def _readers(scheduled: list[Scheduled]) -> Iterator[tuple[Sequence, slice]]:
    """Each sequence that uses logits of a step, with its rows. Forks use those after the last token of the prompt."""
    start = 0
    for part in scheduled:
        end = start + part.chunk.num_logits
        if start < end:
            yield part.sequence, slice(start, end)
            for fork in part.starting_forks:
                yield fork, slice(start, start + 1)
        start = end


def _score(sequence: Sequence, logits: Tensor) -> None:
    """Score the next targets of a sequence, one for each row of the logits.

    Raises:
        CheckpointError: the logits are not finite.
    """
    assert sequence.target_ids is not None
    first = len(sequence.target_logprobs)
    targets = torch.tensor(sequence.target_ids[first : first + len(logits)], device=logits.device)
    logprobs = logits.log_softmax(-1).gather(-1, targets[:, None])
    check_finite(logprobs.exp())  # one logit that is not a number makes them all so
    sequence.append_scores(logprobs.squeeze(-1).tolist())
