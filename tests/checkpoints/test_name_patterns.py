"""Patterns for names: those of `re`, and those that would stop it."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from germinal.checkpoints.name_patterns import NamePattern
from germinal.errors import CheckpointError

PATTERNS = [
    r".*layers\.[01]\.self_attn\.(q|k)_proj",
    r"^(?!.*visual).*(q_proj|k_proj)$",
    r"(?:a|ab)(?:c|bcd)?(d*)",
    r"(a|aa)+b",
    r"a{2,3}?b*",
    r"[^.]*\.\d+\.x",
    r"\bab\b.*",
    r"(?<=a)b|a(?<!b)",
    r"(a?){0,5}c",
    r"((a|b)?c)*\.?$",
    r"\w+\.(?:[a-c]|\d)\S",
    r"(?:)*a|(b*)*",
    r"\D{3}|.\Z",
    r"(a|b)\1.*",
    r"(?i:A)B*",
]


@pytest.mark.parametrize("pattern", PATTERNS)
@given(name=st.text("abcd.1_", max_size=8))
def test_a_pattern_matches_what_re_matches(pattern: str, name: str) -> None:
    ours = NamePattern(pattern, "here")
    assert ours.matches(name) == (re.fullmatch(pattern, name) is not None)
    assert ours.matches_end(name) == (re.match(rf"(.*\.)?({pattern})$", name) is not None)


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        (r"(a", "not a pattern"),
        ("(" * 4000, "not a pattern"),
        ("a" * 30_000, "30,000 characters"),
        (r"(?:a|a)+b?c", "takes too long"),
    ],
    ids=lambda each: each[:12],
)
def test_what_cannot_be_matched_is_refused(pattern: str, message: str) -> None:
    with pytest.raises(CheckpointError, match=f"here: .*{message}"):
        NamePattern(pattern, "here").matches("a" * 100)
