"""Who runs in the next step. Sequences come and go every step (continuous batching: Yu et al. 2022, "Orca", OSDI)."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from germinal.generation.backends.backend import Backend, Chunk
from germinal.generation.sequence import Sequence
from germinal.generation.slots import Slot, SlotPool, shared_prefix

WORTH_WAITING_FOR = 16
"""A sequence waits a step when another, running now, computes so many more tokens of its prompt than the cache has."""

LOOK_AHEAD = 64
"""How far down the queue the scheduler looks for a sequence that need not wait."""


@dataclass(frozen=True, slots=True)
class Scheduled:
    """A sequence's part in a step."""

    sequence: Sequence
    slot: Slot
    chunk: Chunk


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
        """Take a sequence out, wherever it is, and free its slot."""
        slot = self._running.pop(sequence, None)
        if slot is not None:
            self.slots.release(slot)
        elif sequence in self._waiting:
            self._waiting.remove(sequence)

    def computed(self, part: Scheduled) -> None:
        """Note that a scheduled chunk has run."""
        part.sequence.num_computed = part.chunk.end
        self.slots.computed(part.slot, part.chunk.token_ids)

    def follow(self, leader: Scheduled, follower: Sequence) -> None:
        """Let a follower go on from the prompt that its leader has computed; without a free slot it queues instead."""
        slot = self.slots.fork(leader.slot, follower, len(follower.prompt_ids))
        if slot is None:
            self._waiting.appendleft(follower)
        else:
            self._running[follower] = slot

    def schedule(self) -> list[Scheduled]:
        """The next step: first those that need one token each, then prompts under way, then new ones."""
        scheduled: list[Scheduled] = []
        budget = self._max_step_tokens
        for sequence, slot in sorted(self._running.items(), key=lambda item: item[0].pending > 1):
            budget -= self._take(sequence, slot, budget, scheduled)
        self._admit(budget, scheduled)
        return scheduled

    def _take(self, sequence: Sequence, slot: Slot, budget: int, scheduled: list[Scheduled]) -> int:
        """Schedule what a sequence has pending, within the budget; the number of tokens taken."""
        count = min(sequence.pending, budget)
        if count > 0:
            start = sequence.num_computed
            ids = sequence.ids[start : start + count]
            chunk = Chunk(slot.index, start, ids, sequence.wanted_logits(count), sequence.adapter)
            scheduled.append(Scheduled(sequence, slot, chunk))
        return count

    def _admit(self, budget: int, scheduled: list[Scheduled]) -> None:
        passed_over: list[Sequence] = []
        while self._waiting and budget > 0 and len(passed_over) < LOOK_AHEAD and self.slots.has_free():
            sequence = self._waiting.popleft()
            if self._should_wait(sequence, scheduled):
                passed_over.append(sequence)
                continue
            slot = self._running[sequence] = self.slots.acquire(sequence)
            budget -= self._take(sequence, slot, budget, scheduled)
        self._waiting.extendleft(reversed(passed_over))

    def _should_wait(self, sequence: Sequence, scheduled: list[Scheduled]) -> bool:
        """Whether this very step computes much of the sequence's prompt for another one."""
        coming = max(
            (
                shared_prefix(other.sequence.ids, sequence.ids)
                for other in scheduled
                if other.sequence.adapter == sequence.adapter and other.sequence.pending > 1
            ),
            default=0,
        )
        if coming < WORTH_WAITING_FOR:
            return False
        return coming - self.slots.longest_prefix(sequence.ids, sequence.adapter)[1] >= WORTH_WAITING_FOR
