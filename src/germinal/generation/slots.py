"""The slots of the cache: who holds which, and which prompt prefixes still lie in them.

A slot keeps its tokens after its sequence has ended. A new sequence starts from the slot that shares the longest prefix
with it: few-shot examples, a system prompt or the turns of a chat are computed once. A prefix counts only under the
same adapter, since keys and values depend on it; so they do on the source of an encoder-decoder, which is encoded once
for all sequences that begin with it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from germinal.generation.backends.backend import Backend
from germinal.generation.sequence import Sequence


@dataclass(slots=True)
class Slot:
    """One place in the cache.

    Attributes:
        index: Its number in the backend.
        ids: Tokens whose keys and values lie in it.
        adapter: Adapter that they were computed with.
        encoder_input_ids: Source of an encoder-decoder that has been encoded for it.
        sequence: Who holds it; None when free.
        last_used: Of free slots, the one with the smallest gives way first.
    """

    index: int
    ids: list[int] = field(default_factory=list)
    adapter: str | None = None
    encoder_input_ids: tuple[int, ...] | None = None
    sequence: Sequence | None = None
    last_used: int = 0


class SlotPool:
    """All slots of a backend."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._slots = [Slot(index) for index in range(backend.num_slots)]
        self._clock = 0

    @property
    def num_free(self) -> int:
        """How many slots no sequence holds."""
        return sum(slot.sequence is None for slot in self._slots)

    def longest_prefix(self, sequence: Sequence) -> tuple[Slot | None, int]:
        """The slot that begins with the most tokens of a sequence, and how many; its source, if any, must be there."""
        best, longest = None, 0 if sequence.encoder_input_ids is None else -1
        for slot in self._slots:
            same = (slot.adapter, slot.encoder_input_ids) == (sequence.adapter, sequence.encoder_input_ids)
            if same and len(slot.ids) > longest:
                shared = shared_prefix(slot.ids, sequence.ids)
                if shared > longest:
                    best, longest = slot, shared
        return best, max(longest, 0)

    def acquire(self, sequence: Sequence) -> Slot:
        """Give a sequence a free slot, with the longest prefix that any slot has of it already in place."""
        self._backend.reserve(min(sequence.most_tokens, self._backend.context_window))
        source, shared = self.longest_prefix(sequence)
        # The last token of the prompt always runs: its logits say what comes first.
        shared = min(shared, len(sequence.prompt_ids) - 1)
        slot = self._free_slot()
        if source is not None and source.sequence is None and 2 * shared >= len(source.ids):
            slot = source  # nobody else would miss the rest: take it over where it lies
        if slot is source:
            self._backend.truncate(slot.index, shared)
        else:
            self._backend.free(slot.index)
            slot.encoder_input_ids = None
            if source is not None and (shared or source.encoder_input_ids is not None):
                self._copy(source, slot, shared)
        self._hold(slot, sequence, shared)
        sequence.cached_tokens = shared
        return slot

    def fork(self, source: Slot, sequence: Sequence, length: int) -> Slot:
        """Give a sequence a free slot with the first `length` tokens of another."""
        self._backend.reserve(min(sequence.most_tokens, self._backend.context_window))
        slot = self._free_slot()
        self._copy(source, slot, length)
        self._hold(slot, sequence, length)
        sequence.cached_tokens = length
        return slot

    def copy(self, source: Slot, target: Slot) -> None:
        """Let a slot that a sequence holds begin with all tokens of another."""
        self._copy(source, target, len(source.ids))
        target.ids = list(source.ids)

    def _free_slot(self) -> Slot:
        """The free slot that would be missed least."""
        free = [slot for slot in self._slots if slot.sequence is None]
        return min(free, key=lambda slot: (len(slot.ids) > 0, slot.last_used))

    def _copy(self, source: Slot, target: Slot, length: int) -> None:
        self._backend.fork(source.index, target.index, length)
        target.encoder_input_ids = source.encoder_input_ids

    def _hold(self, slot: Slot, sequence: Sequence, length: int) -> None:
        slot.sequence = sequence
        slot.adapter = sequence.adapter
        slot.ids = sequence.ids[:length]
        sequence.num_computed = length

    def computed(self, slot: Slot, token_ids: Iterable[int]) -> None:
        """Note that a slot's next tokens have been computed, and with the first of them its sequence's source."""
        assert slot.sequence is not None
        slot.encoder_input_ids = slot.sequence.encoder_input_ids
        slot.ids.extend(token_ids)

    def release(self, slot: Slot) -> None:
        """Take a slot from its sequence; what lies in it stays until the slot is needed."""
        self._clock += 1
        slot.sequence = None
        slot.last_used = self._clock

    def forget(self) -> None:
        """Drop every prefix that no running sequence holds: the weights or an adapter have changed."""
        for slot in self._slots:
            if slot.sequence is None:
                slot.ids = []
                slot.encoder_input_ids = None
                self._backend.free(slot.index)


def shared_prefix(left: list[int], right: list[int]) -> int:
    """How many tokens two lists have in common at their beginning."""
    low, high = 0, min(len(left), len(right))
    while low < high:  # slices compare at C's speed, which makes bisection faster than a walk
        middle = (low + high + 1) // 2
        if left[low:middle] == right[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
