"""Who runs in the next step. Sequences come and go every step (continuous batching: Yu et al. 2022, "Orca", OSDI)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass

from germinal.generation.backends.backend import Chunk
from germinal.generation.sequence import Sequence
from germinal.generation.slots import SlotManager, shared_prefix

MAX_STEP_TOKENS = 256
"""Tokens that a step computes at most, unless the engine is told otherwise."""

WORTH_WAITING_FOR = 16
"""A sequence waits a step when another, running now, computes so many more tokens of its prompt than the cache has."""

LOOK_AHEAD = 64
"""How far down the queue the scheduler looks for a sequence that need not wait."""


@dataclass(frozen=True, slots=True)
class Scheduled:
    """A sequence's part in a step.

    Attributes:
        sequence: Who runs.
        chunk: Its tokens.
        encoder_input: What has to be encoded for it first.
    """

    sequence: Sequence
    chunk: Chunk
    encoder_input: Chunk | None = None

    @property
    def num_encoded(self) -> int:
        """Tokens of the encoder input to encode."""
        return 0 if self.encoder_input is None else len(self.encoder_input.token_ids)

    @property
    def starting_forks(self) -> list[Sequence]:
        """The forks of a sequence whose prompt is complete with this step."""
        if not self.chunk.start < len(self.sequence.prompt_ids) <= self.chunk.end:
            return []
        return [fork for fork in self.sequence.forks if not fork.finished]


class Scheduler:
    """Keeps the queue and the running sequences, and fills each step up to a number of tokens.

    Args:
        slots: Where sequences run.
        max_step_tokens: Tokens a step at most, so that a long prompt does not stall the answers that are streaming:
            it is computed in chunks between their tokens.
    """

    def __init__(self, slots: SlotManager, max_step_tokens: int) -> None:
        self._slots = slots
        self._max_step_tokens = max_step_tokens
        self._waiting: OrderedDict[Sequence, SequenceOf[Sequence]] = OrderedDict()  # groups by their first
        self._running: dict[Sequence, None] = {}

    @property
    def has_work(self) -> bool:
        return bool(self._waiting or self._running)

    def add(self, sequences: SequenceOf[Sequence]) -> None:
        """Put sequences that have to run at the same time at the end of the queue."""
        self._waiting[sequences[0]] = sequences

    def fork(self, parent: Sequence, child: Sequence) -> None:
        """Let a sequence go on from its parent's prompt; without a free slot it queues instead."""
        if self._slots.can_allocate(1):
            self._slots.fork(parent, child)
            self._running[child] = None
        else:
            self._queue_first((child,))

    def remove(self, sequence: Sequence) -> None:
        """Take a sequence out, wherever it is, and free its slot."""
        if sequence in self._running:
            del self._running[sequence]
            self._slots.free(sequence)
        self._waiting.pop(sequence, None)

    def schedule(self) -> list[Scheduled]:
        """The next step: first those that need one token each, then prompts under way, then new ones."""
        scheduled: list[Scheduled] = []
        budget = self._max_step_tokens
        for sequence in sorted(self._running, key=lambda each: each.pending > 1):
            budget -= self._take(sequence, budget, scheduled)
        passed_over: list[SequenceOf[Sequence]] = []
        while self._waiting and budget > 0 and len(passed_over) < LOOK_AHEAD and self._slots.can_allocate(1):
            _, group = self._waiting.popitem(last=False)
            if self._should_wait(group[0], scheduled):
                passed_over.append(group)
                continue
            if not self._slots.can_allocate(len(group)):
                passed_over.append(group)  # and nobody overtakes it, or a wide search would never find room
                break
            self._slots.allocate(group)
            self._running |= dict.fromkeys(group)
            budget -= self._take(group[0], budget, scheduled)
        for group in reversed(passed_over):
            self._queue_first(group)
        return scheduled

    def computed(self, part: Scheduled) -> None:
        """Note that a part of a step has run."""
        sequence = part.sequence
        sequence.num_computed = part.chunk.end
        sequence.computed_tokens += len(part.chunk.token_ids) + part.num_encoded
        sequence.encoded_tokens += part.num_encoded
        self._slots.computed(sequence, part.chunk.token_ids)

    def _queue_first(self, group: SequenceOf[Sequence]) -> None:
        self._waiting[group[0]] = group
        self._waiting.move_to_end(group[0], last=False)

    def _take(self, sequence: Sequence, budget: int, scheduled: list[Scheduled]) -> int:
        """Schedule what a sequence has pending, within the budget; how many tokens that is, encoder input included."""
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
        return count + part.num_encoded  # an encoder sees its input whole: it is never cut into chunks

    def _should_wait(self, sequence: Sequence, scheduled: list[Scheduled]) -> bool:
        """Whether this very step computes much of the sequence's prompt for another one, or its encoder input."""
        coming = max(
            (
                shared_prefix(part.sequence.ids, sequence.ids) + part.num_encoded
                for part in scheduled
                if (part.num_encoded or part.sequence.pending > 1) and self._slots.will_share(part.sequence, sequence)
            ),
            default=0,
        )
        if coming < WORTH_WAITING_FOR:
            return False
        return coming - self._slots.prefix_length(sequence) >= WORTH_WAITING_FOR
