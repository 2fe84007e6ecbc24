"""Where a label's word stands in a text: spelling variants that do not count, and the borders of words and numbers."""

from __future__ import annotations

import re
import unicodedata

_SIGNS = "-±~<>≤≥≠¬"
"""Before a number, perhaps after a space, these make another number of it, or a range ("- 1", "> 1")."""

_POINTS = ".,"
"""The same directly before a number (".5")."""

_BEFORE_WORDS = "¬≠!"
"""Directly before a word these say that it does not hold."""

_JOINS = "-\N{HYPHEN}\N{NON-BREAKING HYPHEN}_'\N{RIGHT SINGLE QUOTATION MARK}"
"""Between two letters these join two words to one."""

_NUMBER_GOES_ON = re.compile(r" ?[.,:/\N{FRACTION SLASH}^×*-] ?\d|[ _'\N{RIGHT SINGLE QUOTATION MARK}]\d{3}(?!\d)")
"""After digits: a decimal, a ratio, a time, a range, a power, a product, or three further digits."""


def folded(text: str) -> str:
    """The text without differences of case, width or composition, and with one kind of minus before digits.

    Raised and lowered characters and fractions keep their own: "1½" and "1²" are not "11⁄2" and "12".
    """
    parts = re.split(
        r"([\N{SUPERSCRIPT TWO}\N{SUPERSCRIPT THREE}\N{SUPERSCRIPT ONE}¼½¾\u2070-\u209f\u2150-\u215f])", text
    )
    plain = "".join(part if place % 2 else unicodedata.normalize("NFKC", part) for place, part in enumerate(parts))
    return re.sub(r"[\N{MINUS SIGN}\u2010-\u2015\u207b](?=\s*\d)", "-", plain.casefold())


def openings(text: str) -> tuple[str, str]:
    """Where a word may begin in a folded text: at the first character that is no space, and after punctuation.

    The first of the two is for words that themselves begin with punctuation ("-1", "<none>").
    """
    start = 0
    while start < len(text) and unicodedata.category(text[start])[0] in "ZCPS":
        if text[start] in _SIGNS and text[start + 1 :].lstrip(" \t")[:1].isdigit():
            break
        if text[start] in _POINTS and text[start + 1 : start + 2].isdigit():
            break
        if text[start] in _BEFORE_WORDS and text[start + 1 : start + 2].isalpha():
            break
        start += 1
    return text.lstrip(), text[start:]


def begins_with(text: str, word: str) -> bool:
    """Whether a folded text begins with a word, and does not make another word or number of it."""
    return text.startswith(word) and not _goes_on(word, text[len(word) :])


def _goes_on(word: str, rest: str) -> bool:
    """Whether the text after a word continues it. Where words are written without spaces, nothing is taken to."""
    if not rest or unicodedata.east_asian_width(rest[0]) in "WF":
        return False
    if not _is_part_of_word(word[-1]):
        return word[-1] in f"+{_SIGNS}" and rest[0].isdigit()  # "-1" is not the label "-"
    if word[-1].isdigit() and _NUMBER_GOES_ON.match(rest):
        return True
    if rest[0] in _JOINS and _is_part_of_word(rest[1:2] or " "):
        return True
    return _is_part_of_word(rest[0]) or rest[0] in "+#" or (len(word) == 1 and rest[0] == "-")  # "C++", "A-"


def _is_part_of_word(character: str) -> bool:
    return unicodedata.category(character)[0] in "LNM"
