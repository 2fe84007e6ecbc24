"""Warnings about text metrics that cannot read the references' script, which their values do not reveal.

rouge-score treats every letter outside a-z as a space, and sacrebleu's tokenizer 13a and SQuAD's rules split words at
spaces. In a Greek text the first finds no words; in a Chinese text the others find one word per sentence.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence

from germinal.evaluation.metrics import METRICS

_SHARE = 0.1  # of the letters; above it a value no longer measures what the metric's name says
_WITHOUT_SPACES = ("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR", "TIBETAN")
_BY_WORDS = ("bleu", "token_f1")


def cautions(metrics: Sequence[str], references: Iterable[str]) -> list[str]:
    """One warning for each kind of metric that cannot read the references' script."""
    letters = Counter(character for text in references for character in text.lower() if character.isalpha())
    total = letters.total()
    unseen = sum(count for letter, count in letters.items() if not "a" <= letter <= "z")
    unspaced = sum(count for letter, count in letters.items() if _name(letter).startswith(_WITHOUT_SPACES))
    found = []
    rouge = [name for name in metrics if METRICS[name].library == "rouge-score"]
    if rouge and unseen > _SHARE * total:
        found.append(
            f"{_listed(rouge)} counts only words of a-z and 0-9, but {unseen / total:.0%} of the references' letters "
            "are outside a-z; chrf counts them all."
        )
    words = [name for name in metrics if name in _BY_WORDS]
    if words and unspaced > _SHARE * total:
        found.append(
            f"{_listed(words)} counts words separated by spaces, but {unspaced / total:.0%} of the references' letters "
            "belong to scripts without spaces; chrf does not depend on words."
        )
    return found


def _name(letter: str) -> str:
    return unicodedata.name(letter, "")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)
