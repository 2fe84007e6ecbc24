"""Decides what runs in the next step. Sequences join and leave at every step (continuous batching: Yu et al. 2022,
"Orca", OSDI).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass

from germinal.generation.backends.backend import Chunk
from germinal.generation.sequence import Sequence
from germinal.generation.slots import SlotManager, shared_prefix

MAX_STEP_TOKENS = 256
"""Default limit of the tokens computed in one step."""

WORTH_WAITING_FOR = 16
"""A sequence waits if this step adds at least so many tokens to the prefix that it can share."""

LOOK_AHEAD = 64
"""Number of waiting sequences to pass over in search of one that need not wait."""


@dataclass(frozen=True, slots=True)
class Scheduled:
    """A sequence's part in a step.

    Attributes:
        sequence: The sequence.
        chunk: Its tokens.
        encoder_input: The encoder input to encode first, if any.
    """

    sequence: Sequence
    chunk: Chunk
    encoder_input: Chunk | None = None

    @property
    def num_encoded(self) -> int:
        """Number of encoder tokens to compute."""
        return 0 if self.encoder_input is None else len(self.encoder_input.token_ids)

    @property
    def starting_forks(self) -> list[Sequence]:
        """The forks that can start after this step, because it completes the prompt."""
        if not self.chunk.start < len(self.sequence.prompt_ids) <= self.chunk.end:
            return []
        return [fork for fork in self.sequence.forks if not fork.finished]


class Scheduler:
    """Holds the queue, and fills each step with tokens of running and waiting sequences. A sequence runs while it holds
    a slot.

    Args:
        slots: The slots of the backend.
        max_step_tokens: Limit of the tokens computed in one step. Longer prompts are computed in chunks, so that they
            do not stall the answers that are streaming.
    """

    def __init__(self, slots: SlotManager, max_step_tokens: int) -> None:
        self._slots = slots
        self._max_step_tokens = max_step_tokens
        self._waiting: OrderedDict[Sequence, SequenceOf[Sequence]] = OrderedDict()  # groups, by first sequence

    @property
    def has_work(self) -> bool:
        return bool(self._waiting or self._slots.holders)

    def add(self, sequences: SequenceOf[Sequence]) -> None:
        """Queue a group of sequences that must run at the same time."""
        self._waiting[sequences[0]] = sequences

    def fork(self, parent: Sequence, child: Sequence) -> None:
        """Start a sequence from its parent's computed prompt; if no slot is free, put it at the head of the queue."""
        if self._slots.can_allocate(1):
            self._slots.fork(parent, child)
        else:
            self._waiting[child] = (child,)
            self._waiting.move_to_end(child, last=False)

    def remove(self, sequence: Sequence) -> None:
        """Remove a sequence, whether it runs or waits."""
        self._slots.free(sequence)
        self._waiting.pop(sequence, None)

    def schedule(self) -> list[Scheduled]:
        """Compose the next step: first the sequences that need one token, then unfinished prompts, then new ones."""
        scheduled: list[Scheduled] = []
        budget = self._max_step_tokens
        for sequence in sorted(self._slots.holders, key=lambda each: each.pending > 1):
            budget -= self._take(sequence, budget, scheduled)
        started: list[Sequence] = []
        passed_over = 0
        for first, group in self._waiting.items():
            if budget <= 0 or passed_over == LOOK_AHEAD or not self._slots.can_allocate(1):
                break
            if self._should_wait(first, scheduled):
                passed_over += 1
                continue
            if not self._slots.can_allocate(len(group)):
                break  # overtaking it is not allowed, or a wide beam search might wait forever
            self._slots.allocate(group)
            budget -= self._take(first, budget, scheduled)
            started.append(first)
        for first in started:
            del self._waiting[first]
        return scheduled

    def computed(self, part: Scheduled) -> None:
        """Record that a part of a step has run."""
        sequence = part.sequence
        sequence.num_computed = part.chunk.end
        sequence.computed_tokens += len(part.chunk.token_ids) + part.num_encoded
        sequence.encoded_tokens += part.num_encoded
        self._slots.computed(sequence, part.chunk.token_ids)

    def _take(self, sequence: Sequence, budget: int, scheduled: list[Scheduled]) -> int:
        """Schedule up to `budget` of the pending tokens of a sequence.

        Returns:
            Number of tokens scheduled. It may exceed the budget, as an encoder input is never split into chunks.
        """
        count = min(sequence.pending, budget)
        if count <= 0:
            return 0
        slot, start, adapter = self._slots.slot(sequence), sequence.num_computed, sequence.adapter
        chunk = Chunk(slot, start, sequence.ids[start : start + count], sequence.wanted_logits(count), adapter)
        encoder_input = None
        if sequence.encoder_input_ids is not None and not self._slots.is_encoded(sequence):
            encoder_input = Chunk(slot, 0, sequence.encoder_input_ids, 0, adapter)
        part = Scheduled(sequence, chunk, encoder_input)
        scheduled.append(part)
        return count + part.num_encoded

    def _should_wait(self, sequence: Sequence, scheduled: list[Scheduled]) -> bool:
        """Whether this step computes a large part of the sequence's prompt or encoder input for another sequence."""
        coming = max(
            (
                shared_prefix(part.sequence.ids, sequence.ids) + part.num_encoded
                for part in scheduled
                if (part.num_encoded or part.sequence.pending > 1) and self._slots.will_share(part.sequence, sequence)
            ),
            default=0,
        )
        return coming >= WORTH_WAITING_FOR and coming - self._slots.prefix_length(sequence) >= WORTH_WAITING_FOR
