"""The slots of the cache: which sequence holds which slot, and which prompt prefixes the slots still contain.

A slot keeps its tokens after its sequence has ended. A new sequence starts from the slot that shares the longest prefix
with it, so few-shot examples, a system prompt or the earlier turns of a chat are computed once. Keys and values depend
on more than the tokens (see `Origin`); a prefix is shared only if all of that is equal.

This is bookkeeping over token ids and touches no tensor: the backend copies keys and values when it is told to.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass, field
from typing import NamedTuple

from germinal.generation.sequence import Sequence


class Origin(NamedTuple):
    """What keys and values depend on besides the preceding tokens.

    Attributes:
        adapter: Name of the adapter.
        encoder_input_ids: The encoder's input, for encoder-decoders.
        weights: Version of the weights, incremented by `SlotManager.weights_changed`.
    """

    adapter: str | None
    encoder_input_ids: tuple[int, ...] | None
    weights: int


@dataclass(slots=True, eq=False)
class _Slot:
    """One slot of the cache.

    Attributes:
        index: Its number in the backend.
        ids: The tokens whose keys and values it contains.
        origin: What these were computed with; None if the slot is empty.
    """

    index: int
    ids: list[int] = field(default_factory=list)
    origin: Origin | None = None


class SlotManager:
    """Assigns the slots of a backend to sequences.

    Args:
        num_slots: Number of slots.
        copy: Called with (source, target, length) to copy the first positions of one slot to another, as by
            `Backend.fork`.
    """

    def __init__(self, num_slots: int, copy: Callable[[int, int, int], None]) -> None:
        self._slots = [_Slot(index) for index in range(num_slots)]
        self._free = list(self._slots)  # least recently used first
        self._held: dict[Sequence, _Slot] = {}
        self._copy = copy
        self._weights = 0

    @property
    def holders(self) -> Collection[Sequence]:
        """The sequences that hold a slot, oldest first."""
        return self._held.keys()

    def can_allocate(self, count: int) -> bool:
        """Whether `count` slots are free."""
        return len(self._free) >= count

    def allocate(self, sequences: SequenceOf[Sequence]) -> None:
        """Give each sequence a free slot. The first starts from the longest prefix that any slot shares with it."""
        first, *others = sequences
        source, shared = self._longest_prefix(first)
        # The last token of the prompt always runs, because its logits give the first token of the answer.
        shared = min(shared, len(first.prompt_ids) - 1)
        slot = self._free_slot()
        if source in self._free and 2 * shared >= len(source.ids):
            slot = source  # reused in place: at most half of its tokens are lost
        self._hold(first, slot, source, shared)
        first.cached_tokens = first.num_computed = shared
        for other in others:
            self._hold(other, self._free_slot())

    def fork(self, parent: Sequence, child: Sequence) -> None:
        """Give a sequence a free slot with the prompt that its parent has computed."""
        length = len(child.prompt_ids)
        self._hold(child, self._free_slot(), self._held[parent], length)
        child.cached_tokens = child.num_computed = length

    def regroup(self, sequences: SequenceOf[Sequence], parents: SequenceOf[int]) -> None:
        """Make sequence i continue from the tokens that sequence `parents[i]` has computed.

        The first child of a parent inherits its slot; further children get copies in the slots of childless parents.
        """
        slots = [self._held[sequence] for sequence in sequences]
        childless = iter([slot for number, slot in enumerate(slots) if number not in parents])
        inherited: set[int] = set()
        for sequence, parent in zip(sequences, parents, strict=True):
            slot = slots[parent]
            if parent in inherited:
                slot = next(childless)
                self._fill(slot, slots[parent], len(slots[parent].ids))
            inherited.add(parent)
            self._held[sequence] = slot

    def computed(self, sequence: Sequence, token_ids: Iterable[int]) -> None:
        """Record that the next tokens of a sequence, and with the first of them its encoder input, were computed."""
        slot = self._held[sequence]
        slot.ids.extend(token_ids)
        slot.origin = slot.origin or self._origin(sequence)

    def free(self, sequence: Sequence) -> None:
        """Release a sequence's slot, if it holds one. The tokens in it stay until the slot is needed."""
        if sequence in self._held:
            self._free.append(self._held.pop(sequence))

    def weights_changed(self) -> None:
        """Stop sharing what was computed before this call, including by sequences that are still running."""
        self._weights += 1

    def slot(self, sequence: Sequence) -> int:
        """The number of a sequence's slot in the backend."""
        return self._held[sequence].index

    def is_encoded(self, sequence: Sequence) -> bool:
        """Whether the slot of a sequence contains its encoded input."""
        return self._held[sequence].origin is not None

    def prefix_length(self, sequence: Sequence) -> int:
        """Length of the longest prefix that any slot shares with a sequence."""
        return self._longest_prefix(sequence)[1]

    def will_share(self, running: Sequence, sequence: Sequence) -> bool:
        """Whether another sequence can share what a running one is about to compute."""
        return (self._held[running].origin or self._origin(running)) == self._origin(sequence)

    def _longest_prefix(self, sequence: Sequence) -> tuple[_Slot | None, int]:
        """The slot that shares the longest prefix with a sequence, and its length.

        It may be 0 for an encoder-decoder, where sharing the encoded input alone is worthwhile.
        """
        origin = self._origin(sequence)
        best, longest = None, 0 if sequence.encoder_input_ids is None else -1
        for slot in self._slots:
            if slot.origin == origin and len(slot.ids) > longest:
                shared = shared_prefix(slot.ids, sequence.ids)
                if shared > longest:
                    best, longest = slot, shared
        return best, max(longest, 0)

    def _origin(self, sequence: Sequence) -> Origin:
        return Origin(sequence.adapter, sequence.encoder_input_ids, self._weights)

    def _free_slot(self) -> _Slot:
        """The free slot to overwrite: an empty or outdated one if possible, then the least recently used."""
        return min(self._free, key=lambda slot: slot.origin is not None and slot.origin.weights == self._weights)

    def _hold(self, sequence: Sequence, slot: _Slot, source: _Slot | None = None, length: int = 0) -> None:
        """Give a sequence a free slot, filled with the first `length` tokens of `source`, or empty."""
        self._free.remove(slot)
        self._held[sequence] = slot
        if source is None:
            slot.ids, slot.origin = [], None
        else:
            self._fill(slot, source, length)

    def _fill(self, slot: _Slot, source: _Slot, length: int) -> None:
        """Make a slot start with the first `length` tokens of another."""
        if slot is not source:
            self._copy(source.index, slot.index, length)
        slot.ids, slot.origin = source.ids[:length], source.origin


def shared_prefix(left: list[int], right: list[int]) -> int:
    """Length of the longest common prefix of two lists."""
    low, high = 0, min(len(left), len(right))
    while low < high:  # bisection over slices, which compare at C's speed, is faster than a loop over tokens
        middle = (low + high + 1) // 2
        if left[low:middle] == right[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
