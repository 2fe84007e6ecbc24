"""Normal forms of texts, by what they are for: reading answers, comparing them, and finding near-duplicates.

- `tidy`: how right answers, labels and measured answers are kept.
- `comparable`: equal for answers that count as the same (exact match).
- `folded`: equal for texts that a reader would call the same, whatever their case.

Blanks are what Unicode calls white space. Some characters are not seen at all: zero-width spaces, byte-order marks,
direction marks, soft hyphens, joiners, variation selectors. Control characters are seen, but for `folded`.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache


def _characters(*ranges: tuple[int, int]) -> str:
    return "".join(chr(code) for first, last in ranges for code in range(first, last + 1))


_BLANKS = "".join(character for character in _characters((0, 0x3000)) if character.isspace())
_CONTROLS = _characters((0, 8), (0x0E, 0x1B), (0x7F, 0x84), (0x86, 0x9F))
_DIRECTIONS = _characters((0x061C, 0x061C), (0x200E, 0x200F), (0x202A, 0x202E), (0x2066, 0x206F))
_NO_WIDTH = "\N{SOFT HYPHEN}\u180e\u200b\ufeff" + _characters((0x2060, 0x2064))
_MARKS = _DIRECTIONS + _NO_WIDTH
_JOINERS = "\u200c\u200d"  # inside a word they change how it is read; at its ends they do nothing
# The others of Unicode's Default_Ignorable_Code_Point, of which some matter to flags and emoji.
_SELECTORS = "\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u3164\uffa0" + _characters(
    (0xFE00, 0xFE0F), (0x1D173, 0x1D17A), (0xE0000, 0xE0FFF)
)

_OUTER = _BLANKS + _MARKS + _JOINERS
_WITHOUT_MARKS = str.maketrans("", "", _MARKS)
_WITHOUT_UNSEEN = str.maketrans("", "", _MARKS + _JOINERS + _SELECTORS + _CONTROLS)


def tidy(text: str) -> str:
    """NFC, without blanks and unseen characters at both ends."""
    return unicodedata.normalize("NFC", text).strip(_OUTER)


@lru_cache(1 << 14)
def comparable(text: str) -> str:
    """Tidy, without unseen characters (but joiners and selectors), and every run of blanks one space."""
    return " ".join(tidy(text.translate(_WITHOUT_MARKS)).split())


def folded(text: str) -> str:
    """Without case, width and typographic forms (NFKC) and unseen characters; blanks as in `comparable`."""
    text = unicodedata.normalize("NFKC", text.translate(_WITHOUT_UNSEEN))
    for _ in range(2):  # folding case may leave letters to normalize, and the other way round
        text = unicodedata.normalize("NFKC", text.translate(_WITHOUT_UNSEEN).casefold())
    return " ".join(text.split())
