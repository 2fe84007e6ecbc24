"""Answers that cannot count, by why."""

from __future__ import annotations

import pytest

from germinal.evaluation.answer_counts import answer_counts
from germinal.ledger import CountsRecord
from germinal.predictors.answers import Answer, Labels, Output, decide

LABELS = Labels.of(["pos", "neg"])
TOO_LONG = Output(error="the prompt has 900 tokens, the model reads 512")


def test_generated_labels() -> None:
    outputs = [
        Output("pos", "stop"),
        Output("neg, as it is dull", "length"),  # the label was read before the text was cut
        Output("<think>The review says", "length"),
        Output(" \n", "stop"),
        Output("maybe", "stop"),
        TOO_LONG,
    ]
    answers = [decide("generate", output, LABELS) for output in outputs]
    counted = answer_counts(answers, outputs)
    assert counted == CountsRecord(answers=6, failed=1, cut=1, empty=1, unparsable=1)
    assert counted.lost == 4


def test_generated_texts_and_their_sum_over_replicates() -> None:
    outputs = [Output("Paris is the", "length"), Output("Paris", "stop"), Output("", "stop"), TOO_LONG]
    counted = answer_counts([decide("generate", output, None) for output in outputs], outputs)
    assert counted == CountsRecord(answers=4, failed=1, cut=1, empty=1)
    assert counted + counted == CountsRecord(answers=8, failed=2, cut=2, empty=2)


def test_scored_labels_and_baselines_can_only_fail() -> None:
    scored = Output(label_logprobs={"pos": -1.0, "neg": -2.0})
    outputs = [scored, TOO_LONG]
    answers = [decide("likelihood", output, LABELS) for output in outputs]
    assert answer_counts(answers, outputs) == CountsRecord(answers=2, failed=1)
    fitted = [Answer("pos", "pos"), Answer(None, "The first sentence."), Answer(None, ""), Answer(None, "", error="no")]
    assert answer_counts(fitted) == CountsRecord(answers=4, failed=1, empty=1)
    with pytest.raises(ValueError, match="argument"):
        answer_counts(fitted, outputs)
