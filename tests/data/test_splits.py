"""The split's invariants, as properties: order and name decide nothing, groups stay whole, a new row moves one unit."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from germinal.data.dataset import Row, make_dataset
from germinal.data.readers import Record, Table
from germinal.data.splits import Splits, check_labels, split
from germinal.errors import DataError, SettingError


def rows_of(texts: list[str], groups: list[str] | None = None) -> tuple[Row, ...]:
    group_of = groups or texts
    records = [
        Record({"text": text, "label": "pos", "group": group}, f"rows.csv:{line}")
        for line, (text, group) in enumerate(zip(texts, group_of, strict=True), start=2)
    ]
    table = Table(Path("rows.csv"), ("text", "label", "group"), tuple(records))
    return make_dataset(table, input="text", target="label", group="group" if groups else None).rows


def where(splits: Splits) -> dict[str, str]:
    return {row.key: name for name in ("train", "dev", "test") for row in getattr(splits, name)}


words = st.text("abcdefgh", min_size=1, max_size=6)
texts = st.lists(words, min_size=8, max_size=30, unique=True)
sizes = st.tuples(st.integers(1, 3), st.integers(1, 3)) | st.tuples(st.floats(0.15, 0.4), st.floats(0.15, 0.4))
mixed = sizes | st.tuples(st.integers(1, 3), st.floats(0.15, 0.4)) | st.tuples(st.floats(0.15, 0.4), st.integers(1, 3))


@settings(max_examples=40, deadline=None)
@given(texts=texts, size=mixed, seed=st.integers())
def test_every_row_is_placed_once_whatever_the_order(texts: list[str], size: tuple[float, float], seed: int) -> None:
    rows = list(rows_of(texts))
    placed = split(rows, dev=size[0], test=size[1])
    assert Counter(row.id for part in (placed.train, placed.dev, placed.test) for row in part) == Counter(
        row.id for row in rows
    )
    random.Random(seed).shuffle(rows)
    again = split([replace(row, position=place) for place, row in enumerate(rows)], dev=size[0], test=size[1])
    for name in ("train", "dev", "test"):
        assert [row.id for row in getattr(placed, name)] == [row.id for row in getattr(again, name)]


@settings(max_examples=40, deadline=None)
@given(texts=texts, dev=st.integers(1, 3), test=st.integers(1, 3))
def test_counts_are_met_exactly_without_groups(texts: list[str], dev: int, test: int) -> None:
    placed = split(rows_of(texts), dev=dev, test=test)
    assert (len(placed.dev), len(placed.test)) == (dev, test)


def test_shares_are_shares() -> None:
    placed = split(rows_of([f"text {number}" for number in range(1000)]), dev=0.1, test=0.2)
    assert (len(placed.train), len(placed.dev), len(placed.test)) == (700, 100, 200)


@settings(max_examples=40, deadline=None)
@given(texts=texts, added=words, size=mixed)
def test_a_new_row_moves_at_most_one_row_across_each_border(
    texts: list[str], added: str, size: tuple[float, float]
) -> None:
    assume(added not in texts)
    before = where(split(rows_of(texts), dev=size[0], test=size[1]))
    after = where(split(rows_of([*texts, added]), dev=size[0], test=size[1]))
    moves = Counter((before[key], after[key]) for key in before if before[key] != after[key])
    assert set(moves) <= {("test", "train"), ("train", "test"), ("dev", "train"), ("train", "dev")}
    assert moves["test", "train"] + moves["train", "test"] <= 1
    assert moves["dev", "train"] + moves["train", "dev"] <= 1


@settings(max_examples=40, deadline=None)
@given(
    grouped=st.lists(
        st.tuples(words, st.sampled_from("abcdefghijkl")), min_size=20, max_size=30, unique_by=lambda t: t[0]
    ),
    dev=st.integers(1, 3),
    test=st.integers(1, 3),
)
def test_groups_stay_whole_and_splits_get_at_least_what_was_asked(
    grouped: list[tuple[str, str]], dev: int, test: int
) -> None:
    assume(len({group for _, group in grouped}) >= 7)
    placed = split(rows_of([text for text, _ in grouped], [group for _, group in grouped]), dev=dev, test=test)
    homes = [{row.group for row in part} for part in (placed.train, placed.dev, placed.test)]
    assert all(not first & second for first, second in [*pairwise(homes), (homes[0], homes[2])])
    assert len(placed.dev) >= dev
    assert len(placed.test) >= test
    largest = max(Counter(group for _, group in grouped).values())
    assert len(placed.dev) < dev + largest
    assert len(placed.test) < test + largest


@settings(max_examples=40, deadline=None)
@given(
    grouped=st.lists(
        st.tuples(words, st.sampled_from("abcdefghijkl")), min_size=20, max_size=30, unique_by=lambda t: t[0]
    ),
    added=st.tuples(words, st.sampled_from("abcdefghijklm")),
    size=st.tuples(st.integers(1, 3), st.integers(1, 3)),
)
def test_a_new_row_moves_at_most_one_group_across_each_border(
    grouped: list[tuple[str, str]], added: tuple[str, str], size: tuple[int, int]
) -> None:
    assume(len({group for _, group in grouped}) >= 8 and added[0] not in {text for text, _ in grouped})

    def homes(rows: list[tuple[str, str]]) -> dict[str, str]:
        placed = split(rows_of([text for text, _ in rows], [group for _, group in rows]), dev=size[0], test=size[1])
        return {str(row.group): name for name in ("train", "dev", "test") for row in getattr(placed, name)}

    before, after = homes(grouped), homes([*grouped, added])
    moves = Counter(frozenset((before[group], after[group])) for group in before if before[group] != after[group])
    assert set(moves) <= {frozenset(("test", "train")), frozenset(("dev", "train"))}
    assert all(count == 1 for count in moves.values())


def test_texts_that_differ_in_case_and_spacing_stay_together() -> None:
    rows = rows_of([f"text {number}" for number in range(40)] + [f"TEXT  {number}" for number in range(40)])
    placed = split(rows, dev=10, test=10)
    homes: dict[str, set[str]] = {}
    for row in rows:
        homes.setdefault(" ".join(row.input.lower().split()), set()).add(where(placed)[row.key])
    assert len(homes) == 40
    assert all(len(home) == 1 for home in homes.values())


def test_the_split_does_not_change_with_the_program() -> None:
    placed = split(rows_of([f"text {number}" for number in range(20)]), dev=3, test=3)
    assert sorted(row.input for row in placed.test) == GOLDEN_TEST
    assert sorted(row.input for row in placed.dev) == GOLDEN_DEV


GOLDEN_TEST = ["text 0", "text 16", "text 7"]
GOLDEN_DEV = ["text 15", "text 3", "text 8"]


@pytest.mark.parametrize(("dev", "test"), [(0, 3), (3, -1), (0.0, 0.2), (0.2, 1.0), (1.5, 0.2), (True, 3), ("3", 3)])
def test_impossible_sizes_are_refused(dev: object, test: object) -> None:
    with pytest.raises(SettingError, match="split"):
        split(rows_of([f"text {number}" for number in range(20)]), dev=dev, test=test)  # type: ignore[arg-type]


def test_too_few_rows_are_refused() -> None:
    for size in (10, 0.5):
        with pytest.raises(DataError, match=r"20 rows in 20 units are too few to give 10 to test and 10 to dev"):
            split(rows_of([f"text {number}" for number in range(20)]), dev=size, test=size)
    with pytest.raises(DataError, match="3 rows in 1 units"):
        split(rows_of(["a", "b", "c"], ["one", "one", "one"]), dev=1, test=1)


def labelled(train: str, dev: str, test: str) -> Splits:
    row = rows_of(["a"])[0]
    parts = {
        name: tuple(replace(row, target=target) for target in targets)
        for name, targets in {"train": train, "dev": dev, "test": test}.items()
    }
    return Splits(**parts)


def test_labels_that_cannot_be_learned_are_refused_with_counts() -> None:
    check_labels(labelled("aabb", "ab", "ba"))
    with pytest.raises(DataError, match=r"'c' \(0 of 4 rows of train, 2 of 3 rows of dev, 1 of 2 rows of test\)"):
        check_labels(labelled("aabb", "cca", "cb"))
    assert labelled("ba", "a", "b").labels == ("a", "b")


def test_declared_labels_must_hold() -> None:
    check_labels(labelled("ab", "a", "b"), ["b", "a"])
    with pytest.raises(DataError, match=r"'b' .* is not among the declared labels"):
        check_labels(labelled("ab", "a", "b"), ["a", "bb"])
    with pytest.raises(DataError, match="'c'"):
        check_labels(labelled("ab", "a", "b"), ["a", "b", "c"])
