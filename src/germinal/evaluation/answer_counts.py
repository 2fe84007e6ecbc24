"""How many of a trial's answers cannot count, and why: a figure over such answers is not one about the model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Literal, get_args

from germinal.ledger import CountsRecord
from germinal.predictors.answers import Answer, Output

Kind = Literal["failed", "cut", "empty", "unparsable"]
KINDS: tuple[Kind, ...] = get_args(Kind)


def answer_counts(answers: Sequence[Answer], outputs: Sequence[Output] = ()) -> CountsRecord:
    """Count the answers of one trial by why they cannot count.

    Args:
        outputs: What the answers were made of, in the same order; none of a baseline, whose outputs are answers.

    Raises:
        ValueError: there are outputs, and not one for each answer.
    """
    made_of: Sequence[Output | None] = outputs or [None] * len(answers)
    kinds = Counter(kind_of(answer, output) for answer, output in zip(answers, made_of, strict=True))
    return CountsRecord(len(answers), *(kinds[kind] for kind in KINDS))


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
