"""The slots of the cache as bookkeeping over token ids: no model is needed to see who gets what."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from germinal.generation.sequence import Sequence
from germinal.generation.slots import Copy, SlotManager, shared_prefix


def compute(slots: SlotManager, sequence: Sequence) -> None:
    """What the scheduler notes when all that a sequence has pending has run."""
    slots.computed(sequence, sequence.ids[sequence.num_computed :])
    sequence.num_computed = len(sequence.ids)


def start(slots: SlotManager, *prompt: int, adapter: str | None = None) -> Sequence:
    sequence = Sequence(prompt, adapter=adapter)
    slots.allocate([sequence])
    compute(slots, sequence)
    return sequence


def test_a_prefix_is_copied_from_who_runs_and_taken_over_from_who_has_ended() -> None:
    slots = SlotManager(3)
    first = start(slots, 1, 2, 3, 4)
    second = start(slots, 1, 2, 3, 5)
    assert second.cached_tokens == 3
    assert slots.take_copies() == [Copy(slots.slot(first), slots.slot(second), 3)]
    assert slots.take_copies() == [], "told once"
    place = slots.slot(second)
    slots.free(second)
    third = start(slots, 1, 2, 3, 5, 6)
    assert (third.cached_tokens, slots.slot(third), slots.take_copies()) == (4, place, [])


def test_the_last_token_of_a_prompt_always_runs() -> None:
    slots = SlotManager(2)
    start(slots, 1, 2, 3)
    assert start(slots, 1, 2, 3).cached_tokens == 2


def test_a_prefix_belongs_to_its_adapter_and_its_weights() -> None:
    slots = SlotManager(4)
    running = start(slots, 1, 2, 3, 4, adapter="tuned")
    assert start(slots, 1, 2, 3, 4).cached_tokens == 0
    assert start(slots, 1, 2, 3, 4, adapter="tuned").cached_tokens == 3
    slots.weights_changed()
    fork = Sequence(running.prompt_ids, adapter="tuned")
    slots.fork(running, fork)
    slots.free(running)
    slots.free(fork)
    assert start(slots, 1, 2, 3, 4, adapter="tuned").cached_tokens == 0, "held and forked across the change"
    assert start(slots, 1, 2, 3, 4, adapter="tuned").cached_tokens == 3, "computed after it"


def test_the_least_useful_slot_gives_way() -> None:
    slots = SlotManager(3)
    ended = [start(slots, number) for number in (1, 2, 3)]
    places = [slots.slot(sequence) for sequence in ended]
    slots.free(ended[1])
    slots.free(ended[0])
    assert slots.slot(start(slots, 7)) == places[1], "unused for longest"
    slots.weights_changed()
    slots.free(ended[2])
    newest = start(slots, 8)
    assert slots.slot(newest) == places[0], "all are outdated, and this one was unused for longest"


@given(parents=st.lists(st.integers(0, 4), min_size=5, max_size=5))
def test_each_beam_goes_on_from_its_parents_past(parents: list[int]) -> None:
    slots = SlotManager(6)
    beams = [Sequence([1, 2]) for _ in range(5)]
    slots.allocate(beams)
    compute(slots, beams[0])
    slots.regroup(beams, [0] * 5)
    # The cache as a backend would have it: what lies in each place.
    cache = {slots.slot(beams[0]): [1, 2]}
    for copy in slots.take_copies():
        cache[copy.target] = cache[copy.source][: copy.length]
    for number, beam in enumerate(beams):
        slots.computed(beam, [10 + number])
        cache[slots.slot(beam)].append(10 + number)
    slots.regroup(beams, parents)
    for copy in slots.take_copies():
        cache[copy.target] = cache[copy.source][: copy.length]
    assert [cache[slots.slot(beam)] for beam in beams] == [[1, 2, 10 + parent] for parent in parents]
    assert len({slots.slot(beam) for beam in beams}) == 5


@given(st.lists(st.integers(0, 2)), st.lists(st.integers(0, 2)))
def test_shared_prefix(left: list[int], right: list[int]) -> None:
    expected = 0
    while expected < min(len(left), len(right)) and left[expected] == right[expected]:
        expected += 1
    assert shared_prefix(left, right) == expected
