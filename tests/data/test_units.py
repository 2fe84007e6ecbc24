"""What splits keep together: groups, near-duplicates, and groups that share one; and what stays as it always was."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from germinal.data import Row, make_dataset, split
from germinal.data.readers import Record, Table
from germinal.data.units import clusters_of, units_of
from germinal.storage import digest


def rows_of(pairs: list[tuple[str, str]]) -> tuple[Row, ...]:
    records = [Record({"text": text, "label": "pos", "group": group}, "rows.csv") for text, group in pairs]
    table = Table(Path("rows.csv"), ("text", "label", "group"), tuple(records))
    return make_dataset(table, input="text", target="label", group="group").rows


def spelt_otherwise(text: str, way: int) -> str:
    """The same to a reader: other case, other blanks, unseen letters, another Unicode form, another width."""
    ways = (
        text.upper(),
        text.replace(" ", "\u00a0\n"),
        "\ufeff" + text.replace("e", "e\u200b"),
        unicodedata.normalize("NFD", text.swapcase()),
        "".join(chr(ord(letter) + 0xFEE0) if "!" <= letter <= "~" else letter for letter in text),
    )
    return ways[way % len(ways)]


def test_near_duplicates_of_other_groups_never_leak() -> None:
    """Each text stands in two groups, the second time spelt otherwise."""
    texts = [f"The caf\u00e9 of scene {number} is empty" for number in range(150)]
    pairs = [(text, f"film {number // 3}") for number, text in enumerate(texts)]
    pairs += [(spelt_otherwise(text, number), f"book {number // 3}") for number, text in enumerate(texts)]
    placed = split(rows_of(pairs), dev=0.25, test=0.25)
    home = {row.input: name for name in ("train", "dev", "test") for row in getattr(placed, name)}
    assert set(home.values()) == {"train", "dev", "test"}
    assert [text for number, text in enumerate(texts) if home[text] != home[spelt_otherwise(text, number)]] == []


def test_names_of_groups_are_the_same_however_they_are_spelt() -> None:
    names = ["Caf\u00e9", " Caf\u00e9", "Cafe\u0301", "CAF\u00c9", "Caf\u00e9\u200b", "Cafe"]
    units = units_of([f"text {number}" for number in range(6)], [name.strip() for name in names])
    assert len(set(units[:5])) == 1
    assert units[5] != units[0]


def test_a_chain_of_likenesses_is_one_unit() -> None:
    units = units_of(["one", "ONE", "two", "Two ", "three"], ["a", "b", "b", "c", "d"])
    assert len(set(units[:4])) == 1
    assert units[0] == min(digest(("group", name)) for name in "abc")
    assert units[4] == digest(("group", "d"))


words = st.text("ab \u200b\u00e9\u0301", max_size=4)


@settings(max_examples=100, deadline=None)
@given(rows=st.lists(st.tuples(words, st.sampled_from(["p", "P ", "q", "r", None])), max_size=12), data=st.data())
def test_units_do_not_depend_on_the_order_of_rows(rows: list[tuple[str, str | None]], data: st.DataObject) -> None:
    def of(pairs: list[tuple[str, str | None]]) -> dict[tuple[str, str | None], str]:
        return dict(zip(pairs, units_of([text for text, _ in pairs], [group for _, group in pairs]), strict=True))

    assert of(rows) == of(data.draw(st.permutations(rows)))


@settings(max_examples=50, deadline=None)
@given(texts=st.lists(st.text("abcdef ", min_size=1), unique_by=lambda text: " ".join(text.split()), max_size=12))
def test_where_nothing_is_joined_units_are_what_they_always_were(texts: list[str]) -> None:
    assert units_of(texts, [None] * len(texts)) == [digest(("input", " ".join(text.split()))) for text in texts]
    groups = [str(number // 2) for number in range(len(texts))]
    assert units_of(texts, groups) == [digest(("group", group)) for group in groups]


@pytest.mark.parametrize(
    ("inputs", "groups", "clusters"),
    [
        (["a", "b"], [None, None], None),
        (["a", "b"], ["x", "y"], None),
        (["a", "b", "A"], [None, None, None], 2),
        (["a", "b", "c"], ["x", "y", "X"], 2),
    ],
)
def test_rows_that_count_as_one_in_statistics(
    inputs: list[str], groups: list[str | None], clusters: int | None
) -> None:
    found = clusters_of(inputs, groups)
    assert (len(set(found)) if found else None) == clusters
