"""Whether metrics of texts see the letters of a language at all: said to the reader, as their figures do not say it.

rouge-score takes every letter but a-z for a blank, and sacrebleu's tokenizer 13a and SQuAD's rules take what stands
between two blanks for a word. Of Greek or Chinese texts the one sees nothing and the others one word a sentence.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence

from germinal.evaluation.metrics import METRICS

_SHARE = 0.1  # of the letters, from which on a figure says something else than its name
_WITHOUT_BLANKS = ("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR", "TIBETAN")
_BY_WORDS = ("bleu", "token_f1")


def cautions(metrics: Sequence[str], references: Iterable[str]) -> list[str]:
    """One sentence for each kind of metric that does not see the references as a reader does."""
    letters = Counter(character for text in references for character in text.lower() if character.isalpha())
    total = letters.total()
    unseen = sum(count for letter, count in letters.items() if not "a" <= letter <= "z")
    unspaced = sum(count for letter, count in letters.items() if _name(letter).startswith(_WITHOUT_BLANKS))
    said = []
    rouge = [name for name in metrics if METRICS[name].library == "rouge-score"]
    if rouge and unseen > _SHARE * total:
        said.append(
            f"{_listed(rouge)} counts words of a-z and 0-9 alone, and {unseen / total:.0%} of the references' letters "
            "are others; chrf sees them all."
        )
    words = [name for name in metrics if name in _BY_WORDS]
    if words and unspaced > _SHARE * total:
        said.append(
            f"{_listed(words)} counts what stands between blanks as one word, and {unspaced / total:.0%} of the "
            "references' letters are of a script without blanks; chrf needs no words."
        )
    return said


def _name(letter: str) -> str:
    return unicodedata.name(letter, "")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)
