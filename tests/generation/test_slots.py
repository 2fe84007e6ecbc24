"""The slots of the cache as bookkeeping over token ids: no model is needed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from germinal.generation.sequence import Sequence
from germinal.generation.slots import SlotManager, shared_prefix


def manager(num_slots: int) -> SlotManager:
    """A manager whose copies do nothing."""
    return SlotManager(num_slots, lambda *copy: None)


def compute(slots: SlotManager, sequence: Sequence) -> None:
    """Record that all pending tokens of a sequence have run, as the scheduler does."""
    slots.computed(sequence, sequence.ids[sequence.num_computed :])
    sequence.num_computed = len(sequence.ids)


def start(slots: SlotManager, *prompt: int, adapter: str | None = None) -> Sequence:
    sequence = Sequence(prompt, adapter=adapter)
    slots.allocate([sequence])
    compute(slots, sequence)
    return sequence


def test_a_prefix_is_copied_from_who_runs_and_taken_over_from_who_has_ended() -> None:
    copies: list[tuple[int, int, int]] = []
    slots = SlotManager(3, lambda *copy: copies.append(copy))
    first = start(slots, 1, 2, 3, 4)
    second = start(slots, 1, 2, 3, 5)
    assert second.cached_tokens == 3
    assert copies == [(slots.slot(first), slots.slot(second), 3)]
    place = slots.slot(second)
    slots.free(second)
    third = start(slots, 1, 2, 3, 5, 6)
    assert (third.cached_tokens, slots.slot(third), len(copies)) == (4, place, 1)


def test_the_last_token_of_a_prompt_always_runs() -> None:
    slots = manager(2)
    start(slots, 1, 2, 3)
    assert start(slots, 1, 2, 3).cached_tokens == 2


def test_a_prefix_belongs_to_its_adapter_and_its_weights() -> None:
    slots = manager(4)
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
    slots = manager(3)
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
    cache: dict[int, list[int]] = {}  # the tokens in each slot, as a backend would have them

    def copy(source: int, target: int, length: int) -> None:
        cache[target] = cache[source][:length]

    slots = SlotManager(6, copy)
    beams = [Sequence([1, 2]) for _ in range(5)]
    slots.allocate(beams)
    compute(slots, beams[0])
    cache[slots.slot(beams[0])] = [1, 2]
    slots.regroup(beams, [0] * 5)
    for number, beam in enumerate(beams):
        slots.computed(beam, [10 + number])
        cache[slots.slot(beam)].append(10 + number)
    slots.regroup(beams, parents)
    assert [cache[slots.slot(beam)] for beam in beams] == [[1, 2, 10 + parent] for parent in parents]
    assert len({slots.slot(beam) for beam in beams}) == 5


@given(st.lists(st.integers(0, 2)), st.lists(st.integers(0, 2)))
def test_shared_prefix(left: list[int], right: list[int]) -> None:
    expected = 0
    while expected < min(len(left), len(right)) and left[expected] == right[expected]:
        expected += 1
    assert shared_prefix(left, right) == expected
