"""Answer rules as pure functions: what counts as a label, how probabilities are made, what priors do."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax

from germinal.errors import SettingError
from germinal.predictors.answers import (
    Answer,
    Labels,
    Output,
    decide,
    label_probabilities,
    parse_label,
    priors_from,
)

SENTIMENT = Labels({"pos": "Positive", "neg": "Negative"})


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("Positive", "pos"),
        (" positive.", "pos"),
        ("\n\n**NEGATIVE** because it drags", "neg"),
        ("'Positive'", "pos"),
        ("Positive\nNegative", "pos"),
        ("Positive_", "pos"),
        ("— Negative, I think", "neg"),
        ("Positively charming", None),
        ("The review is positive", None),
        ("Sentiment: Positive", None),
        ("pos", None),
        ("", None),
        (" ... ", None),
        ("Posit", None),
    ],
)
def test_a_label_is_read_at_the_start_only(text: str, label: str | None) -> None:
    assert parse_label(text, SENTIMENT) == label


@pytest.mark.parametrize(
    ("words", "text", "label"),
    [
        (["neutral", "neutral to good"], "Neutral to good.", "neutral to good"),
        (["neutral", "neutral to good"], "neutral to be sure", "neutral"),
        (["1", "10"], "10 of 10", "10"),
        (["1", "10"], "1.", "1"),
        (["1", "10"], "100", None),
        (["4", "5"], "4.5 stars", None),
        (["4", "5"], "(4) stars", "4"),
        (["1", "0"], "-1", None),
        (["1", "-1"], "-1", "-1"),
        (["+", "-"], " - bad", "-"),
        (["<yes>", "<no>"], "<no>, never", "<no>"),
        (["积极", "消极"], "积极的评论", "积极"),
        (["straße", "weg"], "STRASSE", "straße"),
        (["caf\u00e9", "bar"], "Cafe\u0301 noir", "caf\u00e9"),
        (["सकार", "नकार"], "सकारा", None),
        *(
            (["1", "0"], text, None)
            for text in ("–1", "- 1", "−1", "—1", "－1", "‑1", "⁻1", "– 1", "±1", "> 1", "≤1", "~1")
        ),
        *(
            (["1", "5"], text, None)
            for text in (".5", "1.5", "1,5", "1/5", "1:5", "1-5", "1–5", "1 – 5", "1^5", "1e5", "5+")
        ),
        *((["1", "11", "12"], text, None) for text in ("1½", "1²", "1 000", "1'000", "½", "1st", "1⁄2")),
        *((["1", "0"], text, "1") for text in ("1", "(1)", "1.", "1, because", "**1**", "#1", "1 - good", "１", "+1")),
        *((["-1", "0", "1"], text, "-1") for text in ("-1", "–1", "−1", "'-1'", "－1.")),
        (["non", "toxic"], "non-toxic", None),
        (["positive", "negative"], "non-positive", None),
        (["positive", "negative"], "positive-ish", None),
        (["positive", "negative"], "positive - mostly", "positive"),
        (["positive", "negative"], "positive—because", "positive"),
        (["positive", "negative"], "!positive", None),
        (["positive", "negative"], "¬positive", None),
        (["positive", "negative"], "<positive>", "positive"),
        (["positive", "negative"], "positive_score", None),
        (["spam", "ham"], "not spam", None),
        (["spam", "not spam"], "Not spam.", "not spam"),
        (["can", "don"], "can't", None),
        (["C", "Java"], "C++", None),
        (["C", "C++"], "C++.", "C++"),
        (["A", "B"], "A-", None),
        (["A", "B"], "B) because", "B"),
        (["+", "-"], "-1", None),
    ],
)
def test_words_of_every_kind(words: list[str], text: str, label: str | None) -> None:
    assert parse_label(text, Labels.of(words)) == label


@settings(max_examples=50, deadline=None)
@given(before=st.text("\n \t*\"'-.:>#", max_size=5), after=st.sampled_from(["", ".", "\n", " and so on", "!!", ", no"]))
def test_what_surrounds_the_word_does_not_matter(before: str, after: str) -> None:
    for label, word in SENTIMENT.words.items():
        for written in (word, word.lower(), word.upper()):
            assert parse_label(before + written + after, SENTIMENT) == label


logprob = st.floats(-60, 0)


@settings(max_examples=50, deadline=None)
@given(st.lists(logprob, min_size=2, max_size=6), st.data())
def test_probabilities_are_the_softmax_and_calibration_divides(scores: list[float], data: st.DataObject) -> None:
    labels = Labels.of([f"label {number}" for number in range(len(scores))])
    logprobs = dict(zip(labels.names, scores, strict=True))
    plain = label_probabilities(logprobs, labels)
    assert list(plain.values()) == pytest.approx(softmax(scores).tolist())
    weights = data.draw(st.lists(st.floats(0.01, 1), min_size=len(scores), max_size=len(scores)))
    priors = dict(zip(labels.names, weights, strict=True))
    divided = softmax(scores) / np.array(weights)
    calibrated = decide("calibrated", Output(label_logprobs=logprobs), labels, priors)
    assert calibrated.probabilities is not None
    assert list(calibrated.probabilities.values()) == pytest.approx((divided / divided.sum()).tolist())
    even = dict.fromkeys(labels.names, 1 / len(scores))
    assert label_probabilities(logprobs, labels, even) == pytest.approx(plain)


def test_likelihood_takes_the_likeliest_and_ties_go_to_the_first() -> None:
    answer = decide("likelihood", Output(label_logprobs={"neg": -1.0, "pos": -2.0}), SENTIMENT)
    assert (answer.label, answer.text) == ("neg", "Negative")
    assert decide("likelihood", Output(label_logprobs={"neg": -1.0, "pos": -1.0}), SENTIMENT).label == "pos"


def test_calibration_turns_an_answer_that_is_only_habit() -> None:
    habit = [Output(label_logprobs={"pos": math.log(p), "neg": math.log(1 - p)}) for p in (0.95, 0.85)]
    priors = priors_from(habit, SENTIMENT)
    assert priors == pytest.approx({"pos": 0.9, "neg": 0.1})
    hesitant = Output(label_logprobs={"pos": math.log(0.8), "neg": math.log(0.2)})
    assert decide("likelihood", hesitant, SENTIMENT).label == "pos"
    answer = decide("calibrated", hesitant, SENTIMENT, priors)
    assert answer.label == "neg"
    assert answer.probabilities == pytest.approx({"pos": 0.8 / 0.9 / (0.8 / 0.9 + 2), "neg": 2 / (0.8 / 0.9 + 2)})


def test_priors_survive_underflow_and_leave_failures_out() -> None:
    certain = Output(label_logprobs={"pos": 0.0, "neg": -2000.0})
    failed = replace(certain, error="cancelled")
    priors = priors_from([certain, failed], SENTIMENT)
    assert priors["neg"] > 0
    assert decide("calibrated", certain, SENTIMENT, priors).probabilities is not None
    with pytest.raises(ValueError, match="at least one"):
        priors_from([failed], SENTIMENT)


def test_a_generated_answer_without_a_label_is_a_failed_answer() -> None:
    answer = decide("generate", Output(text="I would say positive"), SENTIMENT)
    assert answer.label is None
    assert answer.error == "no label at the start of 'I would say positive'"
    assert decide("generate", Output(text=" Positive."), SENTIMENT) == Answer("pos", " Positive.")


@pytest.mark.parametrize("rule", ["generate", "likelihood"])
def test_an_output_with_an_error_is_a_failed_answer(rule: str) -> None:
    assert decide(rule, Output(error="it broke"), SENTIMENT) == Answer(None, "", error="it broke")  # type: ignore[arg-type]


def test_rules_take_what_they_need_and_nothing_else() -> None:
    scored = Output(text="Positive", label_logprobs={"pos": -1.0, "neg": -2.0})
    priors = {"pos": 0.5, "neg": 0.5}
    with pytest.raises(SettingError, match="takes no priors"):
        decide("likelihood", scored, SENTIMENT, priors)
    with pytest.raises(SettingError, match="needs priors"):
        decide("calibrated", scored, SENTIMENT)
    with pytest.raises(SettingError, match="Did you mean 'likelihood'"):
        decide("likelyhood", scored, SENTIMENT)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="generated text"):
        decide("generate", replace(scored, text=None), SENTIMENT)
    with pytest.raises(ValueError, match="log-probabilities"):
        decide("likelihood", replace(scored, label_logprobs=None), SENTIMENT)


def test_words_lose_the_blanks_around_them() -> None:
    assert Labels({"pos": " Positive ", "neg": "Negative\n"}) == SENTIMENT
    assert Labels.of(["pos", "neg"], {"pos": "\tPositive", "neg": " Negative"}).words == {
        "neg": "Negative",
        "pos": "Positive",
    }
    with pytest.raises(SettingError, match="same word"):
        Labels.of(["yes", " yes"])


def test_labels_are_checked() -> None:
    assert Labels.of(["pos", "neg", "pos"]).words == {"neg": "neg", "pos": "pos"}
    assert Labels.of(["pos", "neg"], {"pos": "Good"}).words == {"neg": "neg", "pos": "Good"}
    with pytest.raises(SettingError, match=r"no label 'posi'.*Did you mean 'pos'"):
        Labels.of(["pos", "neg"], {"posi": "Good"})
    for twin in ("Pos", "p\u200bos", "ｐｏｓ"):
        with pytest.raises(SettingError, match=r"same word .*apart from case and blanks"):
            Labels.of(["neg", "pos", twin])
    assert Labels.of(["A", "a"], {" A": "upper", "a\u200b": "lower"}).words == {"A": "upper", "a": "lower"}
    with pytest.raises(SettingError, match="two names are the same label"):
        Labels.of(["neg", "pos"], {"pos": "good", "pos ": "fine"})
    with pytest.raises(SettingError, match="same word"):
        Labels({"a": "Good", "b": " good"})
    with pytest.raises(SettingError, match="blank"):
        Labels({"a": "Good", "b": " "})
    with pytest.raises(SettingError, match="at least two labels, not 1"):
        Labels({"a": "Good"})


@settings(max_examples=50, deadline=None)
@given(
    st.builds(
        Output,
        text=st.none() | st.text(st.characters(exclude_categories=["Cs"])),
        token_ids=st.lists(st.integers(0, 99999), max_size=4).map(tuple),
        label_logprobs=st.none() | st.dictionaries(st.text(max_size=3), logprob, max_size=3),
        prompt_tokens=st.integers(0, 9),
        error=st.none() | st.just("it broke"),
    )
)
def test_outputs_survive_json(output: Output) -> None:
    assert Output.from_json(json.loads(json.dumps(output.to_json()))) == output
