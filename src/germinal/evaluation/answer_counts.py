"""How many of a trial's answers cannot count, and why: a figure over such answers is not one about the model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from operator import add
from typing import Literal, get_args

from germinal.predictors.answers import Answer, Output

Kind = Literal["failed", "cut", "empty", "unparsable"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True, slots=True)
class AnswerCounts:
    """Numbers of answers. Each answer that cannot count is in one of the kinds, the first that fits.

    Attributes:
        answers: All of them.
        failed: There was no output, such as for an input that the model cannot read.
        cut: The text ended at max_new_tokens; with labels, before there was one to read.
        empty: The text is blank.
        unparsable: The text is whole, and holds no label where one has to stand.
    """

    answers: int
    failed: int = 0
    cut: int = 0
    empty: int = 0
    unparsable: int = 0

    @property
    def lost(self) -> int:
        """How many cannot count, whatever the reason."""
        return self.failed + self.cut + self.empty + self.unparsable

    def __add__(self, other: AnswerCounts) -> AnswerCounts:
        return AnswerCounts(*map(add, astuple(self), astuple(other)))


def answer_counts(answers: Sequence[Answer], outputs: Sequence[Output] = ()) -> AnswerCounts:
    """Count the answers of one trial by why they cannot count.

    Args:
        outputs: What the answers were made of, in the same order; none of a baseline, whose outputs are answers.

    Raises:
        ValueError: there are outputs, and not one for each answer.
    """
    made_of: Sequence[Output | None] = outputs or [None] * len(answers)
    kinds = Counter(kind_of(answer, output) for answer, output in zip(answers, made_of, strict=True))
    return AnswerCounts(len(answers), *(kinds[kind] for kind in KINDS))


def kind_of(answer: Answer, output: Output | None) -> Kind | None:
    """Why an answer cannot count, or None if it can."""
    if output is not None and output.error is not None:
        return "failed"
    if answer.label is not None and answer.error is None:
        return None
    if output is not None and output.finish_reason == "length":
        return "cut"
    if answer.error is not None and (output is None or output.text is None):
        return "failed"
    if not answer.text.strip():
        return "empty"
    return "unparsable" if answer.error is not None else None
