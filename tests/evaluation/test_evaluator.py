"""The right interval and test for each kind of candidate, the choice among candidates, and the verdict on success."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from germinal.evaluation.evaluator import Estimate, compare, estimate
from germinal.evaluation.intervals import wilson
from germinal.evaluation.label_metrics import LABEL_METRICS
from germinal.evaluation.metrics import METRICS
from germinal.evaluation.sample import Sample
from germinal.evaluation.selection import choose
from germinal.evaluation.significance import mcnemar_exact
from germinal.evaluation.success import Verdict, judge

MakeSample = Callable[..., Sample]
LABELS = ("pos", "neg")


def answered(right: int, wrong: int, labels: tuple[str, str] = ("pos", "neg")) -> Sample:
    targets = tuple(LABELS[number % 2] for number in range(right + wrong))
    predictions = tuple(
        target if number < right else LABELS[1 - LABELS.index(target)] for number, target in enumerate(targets)
    )
    return Sample(labels, targets, predictions)


def with_skill(base: Sample, seed: int, skill: float) -> Sample:
    """Other answers to the same rows."""
    rng = np.random.default_rng(seed)
    names = base.labels
    said = [target if rng.random() < skill else names[rng.integers(len(names))] for target in base.targets]
    return replace(base, predictions=tuple(said), probabilities=None)


def test_accuracy_of_one_sample_has_wilsons_interval() -> None:
    found = estimate("accuracy", [answered(40, 10)])
    assert (found.value, (found.low, found.high)) == (0.8, wilson(40, 50))
    assert (found.method, found.n, found.replicates, found.spread) == ("Wilson", 50, (0.8,), None)


def test_other_metrics_have_the_bootstraps(make_sample: MakeSample) -> None:
    sample = make_sample(7, failing=0.0)
    for name, metric in LABEL_METRICS.items():
        if name != "accuracy":
            found = estimate(name, [sample])
            assert found.method == "bootstrap"
            assert found.low < found.value < found.high
            assert found.value == pytest.approx(metric.point(sample))
            assert found == estimate(name, [sample])
    assert estimate("f1_macro", [sample], level=0.8).high < estimate("f1_macro", [sample]).high


@pytest.mark.parametrize("name", ["accuracy", "f1_macro"])
def test_replicates_are_averaged_and_do_not_count_as_rows(make_sample: MakeSample, name: str) -> None:
    base = make_sample(8, rows=200)
    replicates = [with_skill(base, seed, 0.7) for seed in range(3)]
    found = estimate(name, replicates)
    points = [METRICS[name].point(sample) for sample in replicates]
    assert found.replicates == tuple(points)
    assert found.value == pytest.approx(np.mean(points))
    assert found.spread == pytest.approx(np.std(points, ddof=1))
    assert (found.n, found.method) == (200, "bootstrap")
    # Three times the same answers are as uncertain as once.
    once, thrice = estimate(name, replicates[:1]), estimate(name, replicates[:1] * 3)
    assert thrice.high - thrice.low == pytest.approx(once.high - once.low, rel=0.1)
    assert thrice.spread == 0


def test_clusters_widen_the_interval(make_sample: MakeSample) -> None:
    base = make_sample(9, rows=200, clusters=20)
    bad_sources = {f"source {number}" for number in range(7)}
    assert base.clusters is not None
    said = tuple(
        None if source in bad_sources else target for source, target in zip(base.clusters, base.targets, strict=True)
    )
    clustered = estimate("accuracy", [replace(base, predictions=said, probabilities=None)])
    plain = estimate("accuracy", [replace(base, predictions=said, probabilities=None, clusters=None)])
    assert clustered.method == "clustered bootstrap"
    assert clustered.value == plain.value
    assert clustered.high - clustered.low > 1.5 * (plain.high - plain.low)


@pytest.mark.parametrize(("name", "low"), [("f1_macro", wilson(12, 12)[0]), ("matthews", 2 * wilson(12, 12)[0] - 1)])
def test_a_perfect_figure_of_few_rows_is_not_certain(name: str, low: float) -> None:
    found = estimate(name, [answered(12, 0)])
    assert (found.value, found.high) == (1, 1)
    assert found.low == pytest.approx(low)
    assert found.method.startswith("Wilson, as")


def test_a_constant_figure_within_its_bounds_has_no_interval() -> None:
    majority = Sample(LABELS, ("pos", "neg") * 10, ("pos",) * 20)
    found = estimate("balanced_accuracy", [majority])
    assert (found.value, found.low, found.high) == (0.5, None, None)
    assert found.method == "none, as the bootstrap has no spread"


def test_accuracy_of_two_samples_is_compared_by_mcnemar(make_sample: MakeSample) -> None:
    base = make_sample(10, rows=200)
    good, bad = with_skill(base, 1, 0.8), with_skill(base, 2, 0.5)
    rights = [[said == truth for said, truth in zip(s.predictions, s.targets, strict=True)] for s in (good, bad)]
    only_good = sum(one and not other for one, other in zip(*rights, strict=True))
    only_bad = sum(other and not one for one, other in zip(*rights, strict=True))
    found = compare("accuracy", [good], [bad])
    assert (found.only_first, found.only_second, found.test) == (only_good, only_bad, "exact McNemar")
    assert found.p_value == mcnemar_exact(only_good, only_bad)
    assert found.difference == pytest.approx((only_good - only_bad) / 200)
    assert found.low < found.difference < found.high
    assert found.low > 0
    turned = compare("accuracy", [bad], [good])
    assert (turned.p_value, turned.difference) == (found.p_value, pytest.approx(-found.difference))


@pytest.mark.parametrize("name", ["accuracy", "f1_macro"])
def test_replicates_are_compared_by_permutation(make_sample: MakeSample, name: str) -> None:
    base = make_sample(11, rows=150)
    good = [with_skill(base, seed, 0.85) for seed in range(3)]
    bad = [with_skill(base, 9, 0.4)]
    found = compare(name, good, bad)
    assert "permutation" in found.test
    assert found.p_value < 0.001
    assert found.difference == pytest.approx(estimate(name, good).value - estimate(name, bad).value)
    assert found.low > 0
    alike = compare(name, good, [with_skill(base, seed, 0.85) for seed in range(20, 23)])
    assert alike.p_value > 0.05
    assert alike.low < 0 < alike.high


def test_the_same_answers_do_not_differ_and_unseen_ones_may(make_sample: MakeSample) -> None:
    sample = make_sample(12)
    missed = wilson(0, len(sample))[1]  # the share of rows with other answers that so many rows may fail to show
    for name in LABEL_METRICS:
        found = compare(name, [sample], [sample])
        assert (found.difference, found.p_value) == (0, 1), name
        ends = (-missed, missed) if name in ("accuracy", "brier") else (None, None)
        assert (found.low, found.high) == (pytest.approx(ends) if ends[0] else ends), name


def test_samples_of_other_rows_are_not_compared(make_sample: MakeSample) -> None:
    with pytest.raises(ValueError, match="same rows"):
        compare("accuracy", [make_sample(1)], [make_sample(2)])
    with pytest.raises(ValueError, match="same rows"):
        estimate("accuracy", [make_sample(1), make_sample(2)])
    with pytest.raises(ValueError, match="at least one"):
        estimate("accuracy", [])


def test_the_cheapest_of_those_that_cannot_be_told_apart_is_proposed(make_sample: MakeSample) -> None:
    base = make_sample(13, rows=300)
    candidates = {
        "big": [with_skill(base, 1, 0.9)],
        "small": [with_skill(base, 2, 0.9)],
        "few-shot": [with_skill(base, seed, 0.9) for seed in (3, 4, 5)],
        "poor": [with_skill(base, 6, 0.3)],
    }
    work = {"big": 8.0, "small": 1.0, "few-shot": 4.0, "poor": 0.1}
    for metric in ("accuracy", "f1_macro"):
        choice = choose(metric, candidates, work)
        values = {name: estimate(metric, candidate).value for name, candidate in candidates.items()}
        assert values[choice.best] == max(values.values())
        assert set(choice.tied) == {"big", "small", "few-shot"}
        assert choice.tied[0] == choice.best
        assert choice.proposed == "small"
        assert choice.adjusted["poor"] < 0.001
        assert all(choice.adjusted[name] >= found.p_value for name, found in choice.against_best.items())


def test_a_metric_of_which_less_is_better_turns_the_choice(make_sample: MakeSample) -> None:
    sharp, dull = (make_sample(14, rows=100, failing=0.0) for _ in range(2))
    assert sharp.probabilities is not None
    dull = replace(dull, probabilities=tuple(dict.fromkeys(dull.labels, 1 / 3) for _ in dull.targets))
    sharp = replace(
        sharp,
        probabilities=tuple(
            {label: 0.9 if label == target else 0.05 for label in sharp.labels} for target in sharp.targets
        ),
    )
    choice = choose("log_loss", {"sharp": [sharp], "dull": [dull]}, {"sharp": 2.0, "dull": 1.0})
    assert (choice.best, choice.tied, choice.proposed) == ("sharp", ("sharp",), "sharp")
    assert choice.against_best["dull"].difference < 0


def test_equal_candidates_are_chosen_by_work_and_one_alone_is_the_best() -> None:
    same = [answered(8, 2)]
    choice = choose("accuracy", {"a": same, "b": same}, {"a": 2.0, "b": 1.0})
    assert (choice.best, choice.tied, choice.proposed) == ("b", ("b", "a"), "b")
    alone = choose("accuracy", {"a": same}, {"a": 2.0})
    assert (alone.best, alone.tied, alone.proposed, dict(alone.adjusted)) == ("a", ("a",), "a", {})


def figure(value: float, low: float, high: float) -> Estimate:
    return Estimate("accuracy", value, low, high, 0.95, 100, "Wilson", (value,), None)


@pytest.mark.parametrize(
    ("required", "verdict"),
    [(0.75, "reached"), (0.7, "reached"), (0.8, "not shown"), (0.81, "not shown"), (0.82, "missed")],
)
def test_success_is_said_with_the_interval_in_mind(required: float, verdict: str) -> None:
    assert judge(required, figure(0.81, 0.75, 0.86), METRICS["accuracy"]) == verdict


@pytest.mark.parametrize(
    ("required", "verdict"),
    [(0.9, Verdict.REACHED), (0.86, Verdict.REACHED), (0.85, Verdict.NOT_SHOWN), (0.8, Verdict.MISSED)],
)
def test_success_at_most(required: float, verdict: Verdict) -> None:
    assert judge(required, figure(0.81, 0.75, 0.86), METRICS["log_loss"]) == verdict
