"""Rows of few groups: intervals that cover what they say, no claims from groups that do not differ, and no verdicts.

The simulations draw groups of unequal sizes whose rows resemble each other, as questions about one document do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from germinal.evaluation.evaluator import Estimate, compare, estimate
from germinal.evaluation.intervals import ENOUGH_UNITS, jackknife, newcombe, resampled, wilson
from germinal.evaluation.metrics import METRICS
from germinal.evaluation.sample import Sample
from germinal.evaluation.success import Verdict, judge

GROUPS = (3, 5, 10, 20)
AT_LEAST = 0.92  # of the intervals that say 95%
DATASETS = {3: 600, 5: 600, 10: 600, 20: 400}
WORDS = 10


def texts(shares: Sequence[float], sizes: Sequence[int]) -> Sample:
    """Answers whose token F1 is `shares`, one after the other, in groups of these sizes."""
    clusters = np.repeat([f"group {number}" for number in range(len(sizes))], sizes)
    targets = (said(WORDS),) * len(shares)
    return Sample((), targets, tuple(said(round(share * WORDS)) for share in shares), clusters=tuple(clusters))


@cache
def said(right: int) -> str:
    return " ".join([f"r{word}" for word in range(right)] + [f"w{word}" for word in range(WORDS - right)])


def drawn_sizes(rng: np.random.Generator, groups: int) -> np.ndarray:
    return rng.integers(4, 17, size=groups)


def group_means(rng: np.random.Generator, mean: float, correlation: float, groups: int) -> np.ndarray:
    """Beta distributed, such that two rows of a group correlate so much."""
    strength = (1 - correlation) / correlation
    return rng.beta(mean * strength, (1 - mean) * strength, size=groups)


def right_and_wrong(rng: np.random.Generator, mean: float, groups: int) -> Sample:
    sizes = drawn_sizes(rng, groups)
    easy = np.repeat(group_means(rng, mean, 0.15, groups), sizes)
    return texts((rng.random(len(easy)) < easy).astype(float), sizes)


def scored(rng: np.random.Generator, mean: float, groups: int) -> Sample:
    sizes = drawn_sizes(rng, groups)
    easy = np.repeat(group_means(rng, mean, 0.1, groups), sizes)
    return texts(rng.binomial(WORDS, easy) / WORDS, sizes)


@pytest.mark.parametrize("groups", GROUPS)
@pytest.mark.parametrize("draw", [right_and_wrong, scored])
@pytest.mark.parametrize("mean", [0.6, 0.85])
def test_intervals_of_means_cover(
    draw: Callable[[np.random.Generator, float, int], Sample], mean: float, groups: int
) -> None:
    rng = np.random.default_rng([1, groups])
    metric = "exact_match" if draw is right_and_wrong else "token_f1"
    hits = 0
    for seed in range(DATASETS[groups]):
        found = estimate(metric, [draw(rng, mean, groups)], draws=300, seed=seed)
        assert found.low is not None
        assert found.high is not None
        hits += found.low <= mean <= found.high
    assert hits >= AT_LEAST * DATASETS[groups]


@pytest.mark.parametrize("groups", GROUPS)
def test_intervals_of_macro_f1_cover(groups: int) -> None:
    """A group is easy or hard, and mostly of one label: a third of both labels' answers are wrong or fail."""
    rng, metric = np.random.default_rng([2, groups]), METRICS["f1_macro"]
    cells = np.array([0.36, 0.10, 0.04, 0.12, 0.36, 0.02])
    truth, hits, given = float(metric.reduce(cells)), 0, 0
    for seed in range(DATASETS[groups]):
        sums = np.array([rng.multinomial(size, rng.dirichlet(6 * cells)) for size in drawn_sizes(rng, groups)])
        found = resampled(
            sums.astype(float),
            metric.reduce,
            clusters=tuple(map(str, range(groups))),
            bounds=(0, 1),
            draws=300,
            seed=seed,
        )
        if found.low is not None and found.high is not None:
            given += 1
            hits += found.low <= truth <= found.high
    assert given > 0.95 * DATASETS[groups]
    assert hits >= AT_LEAST * given


@pytest.mark.parametrize("groups", GROUPS)
def test_intervals_of_paired_differences_cover(groups: int) -> None:
    rng, hits, truth = np.random.default_rng([3, groups]), 0, 0.1
    for seed in range(DATASETS[groups]):
        sizes = drawn_sizes(rng, groups)
        gain = truth + rng.normal(scale=0.1, size=groups)  # differs from group to group
        sums = np.stack([gain * sizes + rng.normal(scale=0.3, size=groups) * np.sqrt(sizes), sizes], axis=1)
        found = resampled(
            sums,
            METRICS["token_f1"].reduce,
            clusters=tuple(map(str, range(groups))),
            bounds=(-1, 1),
            draws=300,
            seed=seed,
        )
        assert found.low is not None
        assert found.high is not None
        hits += found.low <= truth <= found.high
    assert hits >= AT_LEAST * DATASETS[groups]


def test_the_jackknife_of_a_mean_is_students_interval() -> None:
    scores = np.random.default_rng(4).exponential(size=7)
    units = np.stack([scores, np.ones(7)], axis=1)
    expected = stats.t.interval(0.95, 6, scores.mean(), stats.sem(scores))
    assert jackknife(units, METRICS["log_loss"].reduce, bounds=(-np.inf, None)) == pytest.approx(expected)
    assert jackknife(units[:, [1, 1]], METRICS["log_loss"].reduce, bounds=(0, None)) is None


def test_between_bounds_the_jackknife_has_wilsons_form() -> None:
    """Of single rows, right or wrong, it is Wilson's interval with t's quantile and one row less."""
    units = np.stack([np.repeat([1.0, 0.0], [9, 3]), np.ones(12)], axis=1)
    expected = wilson(9 * 11 / 12, 11, quantile=float(stats.t.isf(0.025, 11)))
    assert jackknife(units, METRICS["accuracy"].reduce, bounds=(0, 1)) == pytest.approx(expected)
    doubled = jackknife(units * [2, 1], METRICS["accuracy"].reduce, bounds=(0, 2))
    assert doubled == pytest.approx([2 * end for end in expected])


def test_wilson_takes_sums_of_scores() -> None:
    assert wilson(2.4, 3) == pytest.approx(proportion_confint(2.4, 3, method="wilson"))
    assert wilson(0, 3)[0] == 0
    assert wilson(3, 3)[1] == 1


def test_newcombes_interval_is_that_of_his_paper() -> None:
    """With nothing on either side it is what so many units can miss; all on one side is Wilson's."""
    missed = wilson(0, 30)[1]
    assert newcombe(0, 0, 30) == pytest.approx((-missed, missed))
    low, high = newcombe(30, 0, 30)
    assert high == 1
    assert low == pytest.approx(1 - np.hypot(1 - wilson(30, 30)[0], missed))
    assert newcombe(3, 5, 30) == pytest.approx([-end for end in newcombe(5, 3, 30)[::-1]])


@pytest.mark.parametrize("metric", ["exact_match", "token_f1"])
def test_groups_that_do_not_differ_are_not_certain(metric: str) -> None:
    """18 of 25 right in each of 4 groups: the groups' spread is nothing, what 4 groups can tell is little."""
    sample = texts([1.0] * 18 + [0.0] * 7 + ([1.0] * 18 + [0.0] * 7) * 3, [25] * 4)
    found = estimate(metric, [sample])
    assert (found.value, found.units) == (pytest.approx(0.72), 4)
    assert (found.low, found.high) == pytest.approx(wilson(0.72 * 4, 4))
    assert found.method == "Wilson, as the jackknife over 4 groups has no spread"
    many = texts([1.0, 0.0] * 30, [2] * 30)
    assert estimate(metric, [many]).method == "Wilson, as the clustered bootstrap has no spread"


def test_one_group_or_two_give_wilsons_interval_or_none() -> None:
    sample = texts([1.0] * 15 + [0.5] * 5, [10, 10])
    found = estimate("token_f1", [sample])
    assert found.method == "Wilson, as there are 2 groups"
    assert (found.low, found.high) == pytest.approx(wilson(2 * found.value, 2))
    for name in ("chrf", "bleu"):  # no means of rows
        found = estimate(name, [sample])
        assert (found.low, found.high, found.method) == (None, None, "none, as there are 2 groups")
    alone = estimate("chrf", [texts([1.0, 0.5], [2])])
    assert alone.method == "none, as there is 1 group"


def test_the_method_goes_by_the_number_of_units(make_sample: Callable[..., Sample]) -> None:
    few = make_sample(5, rows=ENOUGH_UNITS - 1, failing=0.0)
    enough = make_sample(5, rows=ENOUGH_UNITS, failing=0.0)
    assert estimate("f1_macro", [few]).method == "jackknife over 19 rows"
    assert estimate("f1_macro", [enough]).method == "bootstrap"
    assert estimate("accuracy", [few]).method == "Wilson"
    assert estimate("log_loss", [few]).low is not None


def test_paired_differences_of_few_groups() -> None:
    rng = np.random.default_rng(6)
    sizes = [10] * 4
    ours, theirs = (texts(rng.binomial(WORDS, share, size=40) / WORDS, sizes) for share in (0.7, 0.5))
    found = compare("token_f1", [ours], [theirs])
    assert found.method == "jackknife over 4 groups"
    assert found.low is not None
    assert found.high is not None
    assert found.low < found.difference < found.high
    # 2 of the 2^4 ways to swap whole groups are as extreme as any difference can be.
    assert found.test == "exact paired permutation (4 groups give no p-value below 0.12)"
    assert found.p_value >= 0.125
    same = compare("token_f1", [ours], [ours])
    assert (same.low, same.high) == pytest.approx((-wilson(0, 4)[1], wilson(0, 4)[1]))
    unknown = compare("chrf", [ours], [ours])
    assert (unknown.difference, unknown.low, unknown.high, unknown.p_value) == (0, None, None, 1)


@pytest.mark.parametrize(("units", "verdict"), [(4, Verdict.NOT_SHOWN), (5, Verdict.REACHED), (None, Verdict.REACHED)])
def test_nothing_is_reached_with_fewer_than_five_groups(units: int | None, verdict: Verdict) -> None:
    found = Estimate("accuracy", 0.9, 0.8, 0.95, 0.95, 100, "jackknife over 4 groups", (0.9,), None, units)
    assert judge(0.75, found, METRICS["accuracy"]) == verdict
    assert judge(0.91, found, METRICS["accuracy"]) == Verdict.MISSED


def test_nothing_is_reached_without_an_interval() -> None:
    found = Estimate("chrf", 90.0, None, None, 0.95, 100, "none, as there are 2 groups", (90.0,), None, 2)
    assert judge(80.0, found, METRICS["chrf"]) == Verdict.NOT_SHOWN
    assert judge(95.0, found, METRICS["chrf"]) == Verdict.MISSED
