"""What counts as the same text, for what purpose."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from germinal.data.normal_forms import comparable, folded, tidy

CAFE, CAFE_APART = "caf\u00e9", "cafe\u0301"


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (" Paris\n", "Paris"),
        ("\ufeffParis\u200b", "Paris"),
        ("\u00a0\u3000Paris \u200f\t", "Paris"),
        (CAFE_APART, CAFE),
        ("two  words\n here", "two  words\n here"),
        ("❤\ufe0f", "❤\ufe0f"),  # without its selector it would be drawn in black
        ("می\u200cخواهم", "می\u200cخواهم"),  # inside a word the joiner is spelling
        ("\u200b", ""),
    ],
)
def test_right_answers_and_labels_are_tidied(text: str, kept: str) -> None:
    assert tidy(text) == kept


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Fichier\u00a0: a", "Fichier : a"),
        ("one\r\ntwo", "one two"),
        ("soft\u00adware", "software"),
        ("zero\u200bwidth", "zerowidth"),
        (CAFE_APART, f" {CAFE}"),
    ],
)
def test_answers_that_count_as_the_same(one: str, other: str) -> None:
    assert comparable(one) == comparable(other)


@pytest.mark.parametrize(("one", "other"), [("Paris", "paris"), ("Paris", "Paris."), ("1,000", "1000"), ("①", "1")])
def test_answers_that_do_not(one: str, other: str) -> None:
    assert comparable(one) != comparable(other)


@pytest.mark.parametrize(
    "variant",
    [
        f"I  LOVED\tthe {CAFE}",
        f" i loved the\u3000{CAFE_APART}\n",
        f"I lo\u00adved the\u200b {CAFE}",
        f"\ufeff\u202aI loved\u2060 the {CAFE}\u202c",
        "Ｉ ｌｏｖｅｄ ｔｈｅ " + CAFE.upper(),
        f"I loved the {CAFE}\ufe0f\u200d\U000e0001",
        f"I\u2003loved\x0bthe\x00 {CAFE}",
    ],
)
def test_near_duplicates(variant: str) -> None:
    assert folded(variant) == folded(f"I loved the {CAFE}")


@given(st.text())
def test_forms_are_stable_and_lie_within_each_other(text: str) -> None:
    for form in (tidy, comparable, folded):
        assert form(form(text)) == form(text)
    assert comparable(tidy(text)) == comparable(text)
    assert folded(comparable(text)) == folded(text)
    assert unicodedata.is_normalized("NFC", tidy(text))
