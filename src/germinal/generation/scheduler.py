"""Who runs in the next step. Sequences come and go every step (continuous batching: Yu et al. 2022, "Orca", OSDI)."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass

from germinal.generation.backends.backend import Backend, Chunk, Source
from germinal.generation.sequence import Sequence
from germinal.generation.slots import Slot, SlotPool, shared_prefix

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
        sequence, slot: Who runs, and where.
        chunk: Its tokens.
        source: What has to be encoded for it first.
    """

    sequence: Sequence
    slot: Slot
    chunk: Chunk
    source: Source | None = None

    @property
    def encoded(self) -> int:
        """Tokens of the source to encode."""
        return 0 if self.source is None else len(self.source.token_ids)


class Scheduler:
    """Keeps the queue and the running sequences, and fills each step up to a number of tokens.

    Args:
        backend: Whose slots are given out.
        max_step_tokens: Tokens a step at most, so that a long prompt does not stall the answers that are streaming:
            it is computed in chunks between their tokens.
    """

    def __init__(self, backend: Backend, max_step_tokens: int) -> None:
        self.slots = SlotPool(backend)
        self._max_step_tokens = max_step_tokens
        self._waiting: deque[Sequence] = deque()
        self._running: dict[Sequence, Slot] = {}

    @property
    def has_work(self) -> bool:
        return bool(self._waiting or self._running)

    def add(self, sequence: Sequence) -> None:
        """Put a sequence at the end of the queue."""
        self._waiting.append(sequence)

    def retire(self, sequence: Sequence) -> None:
        """Take a sequence out, wherever it is, with the beams of its search, and free its slots."""
        for each in sequence.beams:
            slot = self._running.pop(each, None)
            if slot is not None:
                self.slots.release(slot)
            elif each in self._waiting:
                self._waiting.remove(each)

    def computed(self, part: Scheduled) -> None:
        """Note that a scheduled chunk has run."""
        part.sequence.computed(part.chunk.end, part.encoded)
        self.slots.computed(part.slot, part.chunk.token_ids)

    def follow(self, leader: Scheduled, fork: Sequence) -> None:
        """Let a fork go on from the prompt that its leader has computed; without a free slot it queues instead."""
        if self._num_free() > 0:
            self._running[fork] = self.slots.fork(leader.slot, fork, len(fork.prompt_ids))
        else:
            self._waiting.appendleft(fork)

    def branch(self, sequence: Sequence) -> None:
        """Give the beams of a search that begins the slots that were kept for them; `regroup` fills them."""
        for each in sequence.beams:
            if each is not sequence:
                self._running[each] = self.slots.fork(self._running[sequence], each, 0)

    def regroup(self, beams: SequenceOf[Sequence], parents: SequenceOf[int]) -> None:
        """Let each beam go on from what the beam numbered `parents[beam]` has computed.

        A parent's slot goes to the first of its children as it is; the slots of beams that have none take the copies.
        """
        slots = [self._running[beam] for beam in beams]
        spare = [slot for number, slot in enumerate(slots) if number not in parents]
        moved: set[int] = set()
        for beam, parent in zip(beams, parents, strict=True):
            slot = slots[parent]
            if parent in moved:
                slot = spare.pop()
                self.slots.copy(slots[parent], slot)
            moved.add(parent)
            slot.sequence = beam
            self._running[beam] = slot

    def schedule(self) -> list[Scheduled]:
        """The next step: first those that need one token each, then prompts under way, then new ones."""
        scheduled: list[Scheduled] = []
        budget = self._max_step_tokens
        for sequence, slot in sorted(self._running.items(), key=lambda item: item[0].pending > 1):
            budget -= self._take(sequence, slot, budget, scheduled)
        self._admit(budget, scheduled)
        return scheduled

    def _take(self, sequence: Sequence, slot: Slot, budget: int, scheduled: list[Scheduled]) -> int:
        """Schedule what a sequence has pending, within the budget; the number of tokens taken, its source included."""
        count = min(sequence.pending, budget)
        if count > 0:
            start = sequence.num_computed
            ids = sequence.ids[start : start + count]
            chunk = Chunk(slot.index, start, ids, sequence.wanted_logits(count), sequence.adapter)
            source = None
            if sequence.encoder_input_ids is not None and slot.encoder_input_ids is None:
                source = Source(slot.index, sequence.encoder_input_ids, sequence.adapter)
                count += len(sequence.encoder_input_ids)  # an encoder sees its input whole: never in chunks
            scheduled.append(Scheduled(sequence, slot, chunk, source))
        return count

    def _admit(self, budget: int, scheduled: list[Scheduled]) -> None:
        passed_over: list[Sequence] = []
        while self._waiting and budget > 0 and len(passed_over) < LOOK_AHEAD and self._num_free() > 0:
            sequence = self._waiting.popleft()
            if self._should_wait(sequence, scheduled):
                passed_over.append(sequence)
                continue
            if sequence.num_slots > self._num_free():
                passed_over.append(sequence)  # and nobody overtakes it, or a wide search would never find room
                break
            slot = self._running[sequence] = self.slots.acquire(sequence)
            budget -= self._take(sequence, slot, budget, scheduled)
        self._waiting.extendleft(reversed(passed_over))

    def _num_free(self) -> int:
        """Free slots, without those that searches which have not yet begun will need."""
        kept = sum(sequence.num_slots - 1 for sequence in self._running if sequence.search is None)
        return self.slots.num_free - kept

    def _should_wait(self, sequence: Sequence, scheduled: list[Scheduled]) -> bool:
        """Whether this very step computes much of the sequence's prompt for another one, or encodes its source."""
        origin = (sequence.adapter, sequence.encoder_input_ids)
        coming = max(
            (
                shared_prefix(other.sequence.ids, sequence.ids) + other.encoded
                for other in scheduled
                if (other.sequence.adapter, other.sequence.encoder_input_ids) == origin
                and (other.encoded or other.sequence.pending > 1)
            ),
            default=0,
        )
        if coming < WORTH_WAITING_FOR:
            return False
        return coming - self.slots.longest_prefix(sequence)[1] >= WORTH_WAITING_FOR
