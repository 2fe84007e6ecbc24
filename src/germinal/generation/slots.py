"""The slots of the cache: which sequence holds which, and which prompt prefixes still lie in them.

A slot keeps its tokens after its sequence has ended. A new sequence starts from the slot that shares the longest prefix
with it: few-shot examples, a system prompt or the turns of a chat are computed once. Keys and values depend on more
than the tokens (`Origin`), and a prefix serves only where all of that is the same.

This is bookkeeping over token ids: no tensor is touched here. Sequences are named, never places, as a manager of blocks
would do it too, and what has to be copied is left to whoever runs the backend (`take_copies`).
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass, field
from typing import NamedTuple

from germinal.generation.sequence import Sequence


class Origin(NamedTuple):
    """What keys and values depend on beside the tokens before them.

    Attributes:
        adapter: Name of the adapter that they went through.
        encoder_input_ids: Of an encoder-decoder, what its encoder has read.
        weights: Which weights they were computed with, counted by `SlotManager.weights_changed`.
    """

    adapter: str | None
    encoder_input_ids: tuple[int, ...] | None
    weights: int


class Copy(NamedTuple):
    """The first `length` positions of slot `source`, and what was encoded for it, are wanted in slot `target` too."""

    source: int
    target: int
    length: int


@dataclass(slots=True)
class _Slot:
    """One place in the cache.

    Attributes:
        index: Its number in the backend.
        ids: Tokens whose keys and values lie in it.
        origin: What these were computed with; None while nothing lies in it.
        free: Whether no sequence holds it.
        last_used: Of free slots, the one with the smallest gives way first.
    """

    index: int
    ids: list[int] = field(default_factory=list)
    origin: Origin | None = None
    free: bool = True
    last_used: int = 0


class SlotManager:
    """Gives the slots of a backend to sequences.

    Args:
        num_slots: How many there are.
    """

    def __init__(self, num_slots: int) -> None:
        self._slots = [_Slot(index) for index in range(num_slots)]
        self._held: dict[Sequence, _Slot] = {}
        self._copies: list[Copy] = []
        self._weights = 0
        self._clock = 0

    def can_allocate(self, count: int) -> bool:
        """Whether so many sequences can be given a slot now."""
        return sum(slot.free for slot in self._slots) >= count

    def allocate(self, sequences: SequenceOf[Sequence]) -> None:
        """Give each sequence a free slot; the longest prefix that any slot has of the first is put in place for it."""
        first, *others = sequences
        source, shared = self._longest_prefix(first)
        # The last token of the prompt always runs: its logits say what comes first.
        shared = min(shared, len(first.prompt_ids) - 1)
        slot = self._free_slot()
        if source is not None and source.free and 2 * shared >= len(source.ids):
            slot = source  # the rest is not worth a copy: take it over where it lies
        self._fill(slot, source, shared)
        self._hold(slot, first)
        first.cached_tokens = first.num_computed = shared
        for other in others:
            slot = self._free_slot()
            self._fill(slot, None, 0)
            self._hold(slot, other)

    def fork(self, parent: Sequence, child: Sequence) -> None:
        """Give a sequence a free slot with the prompt that its parent has computed."""
        slot, length = self._free_slot(), len(child.prompt_ids)
        self._fill(slot, self._held[parent], length)
        self._hold(slot, child)
        child.cached_tokens = child.num_computed = length

    def regroup(self, sequences: SequenceOf[Sequence], parents: SequenceOf[int]) -> None:
        """Let each sequence go on from what the sequence numbered `parents[...]` has computed.

        A parent's slot goes to the first of its children as it is; the slots of those without children take the copies.
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
        """Note that the next tokens of a sequence have been computed, and with the first of them its encoder input."""
        slot = self._held[sequence]
        slot.ids.extend(token_ids)
        slot.origin = slot.origin or self._origin(sequence)

    def free(self, sequence: Sequence) -> None:
        """Take a sequence's slot; what lies in it stays until the slot is needed."""
        self._clock += 1
        slot = self._held.pop(sequence)
        slot.free = True
        slot.last_used = self._clock

    def weights_changed(self) -> None:
        """What was computed until now serves no other sequence, and neither does what is computed after it."""
        self._weights += 1

    def slot(self, sequence: Sequence) -> int:
        """The number of a sequence's slot in the backend."""
        return self._held[sequence].index

    def is_encoded(self, sequence: Sequence) -> bool:
        """Whether the encoder input of a sequence has been encoded for it."""
        return self._held[sequence].origin is not None

    def prefix_length(self, sequence: Sequence) -> int:
        """How many of a sequence's tokens need not be computed, because a slot begins with them."""
        return self._longest_prefix(sequence)[1]

    def will_share(self, running: Sequence, sequence: Sequence) -> bool:
        """Whether what a running sequence is about to compute can serve another."""
        return (self._held[running].origin or self._origin(running)) == self._origin(sequence)

    def take_copies(self) -> list[Copy]:
        """What has to be copied, in this order, before anything is computed in a slot; told once."""
        copies, self._copies = self._copies, []
        return copies

    def _longest_prefix(self, sequence: Sequence) -> tuple[_Slot | None, int]:
        """The slot that begins with the most tokens of a sequence, and how many. An encoded input is worth it alone."""
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
        """The free slot whose content is of the least use: none, outdated, or unused for longest."""

        def usefulness(slot: _Slot) -> tuple[bool, int]:
            return slot.origin is not None and slot.origin.weights == self._weights, slot.last_used

        return min((slot for slot in self._slots if slot.free), key=usefulness)

    def _fill(self, slot: _Slot, source: _Slot | None, length: int) -> None:
        """Let a slot begin with the first tokens of another, or with nothing."""
        if source is None or (length == 0 and (source.origin is None or source.origin.encoder_input_ids is None)):
            slot.ids, slot.origin = [], None
            return
        if slot is not source:
            self._copies.append(Copy(source.index, slot.index, length))
        slot.ids, slot.origin = source.ids[:length], source.origin

    def _hold(self, slot: _Slot, sequence: Sequence) -> None:
        slot.free = False
        self._held[sequence] = slot


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
