"""Metrics against scikit-learn, and each metric as a function of sums against itself as a function of rows."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st

from germinal.errors import SettingError
from germinal.evaluation.evaluator import estimate
from germinal.evaluation.label_metrics import LABEL_METRICS
from germinal.evaluation.metrics import METRICS, metric_named
from germinal.evaluation.sample import Sample
from germinal.predictors.answers import Answer

MakeSample = Callable[..., Sample]

shapes = {
    "seed": st.integers(0, 10_000),
    "rows": st.integers(1, 40),
    "labels": st.integers(2, 3),
    "failing": st.sampled_from([0.0, 0.2, 1.0]),
    "skill": st.sampled_from([0.0, 0.6, 1.0]),
}


@settings(max_examples=60, deadline=None)
@given(**shapes)
def test_sums_give_what_scikit_learn_gives(
    make_sample: MakeSample, seed: int, rows: int, labels: int, failing: float, skill: float
) -> None:
    sample = make_sample(seed, rows, labels, failing, skill)
    if sample.probabilities is None or all(row is None for row in sample.probabilities):
        sample = replace(sample, probabilities=None)
    for metric in LABEL_METRICS.values():
        if metric.has_figure(sample):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # scikit-learn remarks on a single class
                point = metric.point(sample)
            by_sums = metric.reduce(metric.features(sample).sum(0))
            assert by_sums == pytest.approx(point, abs=1e-12), metric.name
            low, high = metric.bounds
            assert low - 1e-12 <= point
            assert high is None or point <= high + 1e-12


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), labels=st.integers(2, 3))
def test_without_failures_the_figures_are_scikit_learns(make_sample: MakeSample, seed: int, labels: int) -> None:
    sample = make_sample(seed, 50, labels, failing=0.0)
    truth, said = list(sample.targets), list(sample.predictions)
    order = sorted(sample.labels)
    assert sample.probabilities is not None
    table = np.array([[row[label] for label in order] for row in sample.probabilities if row is not None])
    expected = {
        "accuracy": sklearn.metrics.accuracy_score(truth, said),
        "f1_macro": sklearn.metrics.f1_score(truth, said, average="macro", zero_division=0),
        "f1_micro": sklearn.metrics.f1_score(truth, said, average="micro"),
        "balanced_accuracy": sklearn.metrics.balanced_accuracy_score(truth, said),
        "matthews": sklearn.metrics.matthews_corrcoef(truth, said),
        "log_loss": sklearn.metrics.log_loss(truth, table, labels=order),
        "ece": calibration_error(truth, said, table.max(1)),
    }
    if labels == 2:
        expected["brier"] = sklearn.metrics.brier_score_loss([label == order[1] for label in truth], table[:, 1])
    for name, value in expected.items():
        assert METRICS[name].point(sample) == pytest.approx(value, abs=1e-12), name


def calibration_error(truth: list[str], said: list[str | None], confidence: np.ndarray) -> float:
    """Guo et al. 2017, equation 3, as it is written."""
    right = np.array([one == other for one, other in zip(truth, said, strict=True)])
    error = 0.0
    for number in range(15):
        inside = (confidence > number / 15) & (confidence <= (number + 1) / 15)
        if inside.any():
            error += inside.sum() / len(truth) * abs(right[inside].mean() - confidence[inside].mean())
    return float(error)


def test_many_sums_at_once_are_each_alone(make_sample: MakeSample) -> None:
    samples = [make_sample(seed) for seed in range(5)]
    for metric in LABEL_METRICS.values():
        sums = np.stack([metric.features(sample).sum(0) for sample in samples])
        assert metric.reduce(sums).tolist() == pytest.approx([metric.point(sample) for sample in samples])


def test_many_labels_fit_into_memory() -> None:
    names = tuple(f"label {number}" for number in range(150))
    rng = np.random.default_rng(0)
    targets = tuple(names[number] for number in rng.integers(150, size=300))
    said = tuple(target if rng.random() < 0.7 else names[rng.integers(150)] for target in targets)
    found = estimate("f1_macro", [Sample(names, targets, said)], draws=500)
    assert 0.4 < found.low < found.value < found.high < 0.9


LABELS = ("pos", "neg")


def test_a_failed_answer_is_wrong_and_stays_in_the_denominator() -> None:
    sample = Sample(LABELS, ("pos", "pos", "neg", "neg"), ("pos", None, "neg", "neg"))
    assert METRICS["accuracy"].point(sample) == 0.75
    assert METRICS["f1_macro"].point(sample) == pytest.approx((2 / 3 + 1) / 2)  # recall of "pos" is a half
    assert METRICS["balanced_accuracy"].point(sample) == 0.75


def test_a_failed_answer_is_the_worst_probability() -> None:
    sure = {"pos": 1.0, "neg": 0.0}
    sample = Sample(LABELS, ("pos", "pos"), ("pos", None), (sure, None))
    wrong = Sample(LABELS, ("pos", "pos"), ("pos", "neg"), (sure, {"pos": 0.0, "neg": 1.0}))
    assert METRICS["brier"].point(sample) == 0.5
    for name in ("log_loss", "brier", "ece"):
        assert METRICS[name].point(sample) == METRICS[name].point(wrong)


def test_metrics_of_probabilities_need_them() -> None:
    sample = Sample(LABELS, ("pos", "neg"), ("pos", "neg"))
    assert [name for name, metric in LABEL_METRICS.items() if not metric.has_figure(sample)] == [
        "log_loss",
        "brier",
        "ece",
    ]
    with pytest.raises(ValueError, match="no probabilities"):
        METRICS["ece"].point(sample)


def test_an_unknown_metric_hints_at_the_nearest() -> None:
    assert metric_named("accuracy") is METRICS["accuracy"]
    with pytest.raises(SettingError, match=r"no metric 'acuracy'.*Did you mean 'accuracy'"):
        metric_named("acuracy")


def test_samples_are_made_of_answers_and_checked() -> None:
    answers = [Answer("pos", "Positive", {"pos": 0.9, "neg": 0.1}), Answer(None, "?", error="no label")]
    sample = Sample.from_answers(["pos", "neg"], answers, LABELS)
    assert sample.predictions == ("pos", None)
    assert sample.probabilities == ({"pos": 0.9, "neg": 0.1}, None)
    assert Sample.from_answers(["pos"], [Answer("pos", "pos")], LABELS).probabilities is None
    with pytest.raises(ValueError, match="for each"):
        Sample(LABELS, ("pos",), ())
    with pytest.raises(ValueError, match="not among the labels"):
        Sample(LABELS, ("pos",), ("positive",))
    with pytest.raises(ValueError, match="same rows"):
        sample.require_same_rows(replace(sample, targets=("neg", "neg")))
