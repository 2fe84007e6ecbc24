"""Paired tests against statsmodels and scipy, and their false alarms and power by simulation."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower

from germinal.evaluation.metrics import METRICS
from germinal.evaluation.power import detectable_difference, detectable_mean_difference, mcnemar_power
from germinal.evaluation.sample import Sample
from germinal.evaluation.significance import holm, mcnemar_exact, paired_permutation

DATASETS = 2_000
MEAN = METRICS["accuracy"].reduce
F1 = METRICS["f1_macro"]


def no_more_than_draws_can_tell(alarms: int, probability: float) -> bool:
    return bool(alarms <= stats.binom.ppf(0.995, DATASETS, probability))


@pytest.mark.parametrize(("first", "second"), [(0, 0), (1, 0), (3, 9), (20, 5), (40, 41)])
def test_mcnemar_is_statsmodels(first: int, second: int) -> None:
    expected = mcnemar([[50, first], [second, 50]], exact=True).pvalue
    assert mcnemar_exact(first, second) == pytest.approx(min(1.0, expected))


@settings(max_examples=30, deadline=None)
@given(st.dictionaries(st.text(max_size=3), st.floats(0, 1), min_size=1, max_size=8))
def test_holm_is_statsmodels(p_values: dict[str, float]) -> None:
    expected = multipletests(list(p_values.values()), method="holm")[1]
    assert list(holm(p_values).values()) == pytest.approx(expected.tolist())


def test_nothing_to_correct() -> None:
    assert holm({}) == {}


@settings(max_examples=20, deadline=None)
@given(first=st.integers(0, 30), second=st.integers(0, 30), agreed=st.integers(0, 20))
def test_permuting_right_and_wrong_is_mcnemar(first: int, second: int, agreed: int) -> None:
    ours = np.array([1.0] * first + [0.0] * second + [1.0] * agreed + [0.0])
    theirs = np.array([0.0] * first + [1.0] * second + [1.0] * agreed + [0.0])
    result = paired_permutation(*(np.stack([side, np.ones_like(side)], axis=1) for side in (ours, theirs)), MEAN)
    assert result.draws is None
    assert result.p_value == pytest.approx(mcnemar_exact(first, second))


def test_exact_permutation_is_scipys(make_sample: Callable[..., Sample]) -> None:
    good, bad = make_sample(1, 11, 2, skill=0.9), make_sample(1, 11, 2, skill=0.1)
    ours, theirs = F1.features(good), F1.features(bad)

    def difference(first: np.ndarray, second: np.ndarray) -> float:
        return float(F1.reduce(ours_and_theirs[first].sum(0)) - F1.reduce(ours_and_theirs[second].sum(0)))

    ours_and_theirs = np.concatenate([ours, theirs])
    places = (np.arange(11), np.arange(11, 22))
    expected = stats.permutation_test(
        places, difference, permutation_type="samples", n_resamples=np.inf, vectorized=False, alternative="two-sided"
    )
    result = paired_permutation(ours, theirs, F1.reduce)
    assert result.draws is None
    # scipy doubles the smaller tail; ours counts both tails as they are.
    null = np.abs(expected.null_distribution)
    assert result.p_value == pytest.approx(np.mean(null >= abs(expected.statistic) - 1e-12))


def test_drawn_permutation_is_near_the_exact_one(
    monkeypatch: pytest.MonkeyPatch, make_sample: Callable[..., Sample]
) -> None:
    good, bad = make_sample(2, 40, 2, skill=0.8, failing=0.0), make_sample(2, 40, 2, skill=0.45, failing=0.0)
    ours, theirs = F1.features(good), F1.features(bad)
    exact = paired_permutation(ours, theirs, F1.reduce)
    monkeypatch.setattr("germinal.evaluation.significance._MOST_EXACT", 0)
    drawn = paired_permutation(ours, theirs, F1.reduce, draws=40_000)
    assert (exact.draws, drawn.draws) == (None, 40_000)
    assert 0.001 < exact.p_value < 0.5
    error = np.sqrt(exact.p_value * (1 - exact.p_value) / 40_000)
    assert drawn.p_value == pytest.approx(exact.p_value, abs=4 * error)
    assert drawn == paired_permutation(ours, theirs, F1.reduce, draws=40_000)


def test_equal_candidates_and_swapped_ones(make_sample: Callable[..., Sample]) -> None:
    ours, theirs = (METRICS["log_loss"].features(make_sample(seed, failing=0.0)) for seed in (1, 2))
    assert paired_permutation(ours, ours, MEAN).p_value == 1
    forth, back = paired_permutation(ours, theirs, MEAN), paired_permutation(theirs, ours, MEAN)
    assert forth.draws == 10_000
    assert forth.p_value == pytest.approx(back.p_value, abs=0.02)
    assert paired_permutation(ours, theirs - [1e9, 0], MEAN).p_value == pytest.approx(1 / 10_001)


def test_clusters_are_swapped_whole() -> None:
    ours = np.array([[1.0, 1.0]] * 8)
    theirs = np.array([[0.0, 1.0]] * 8)
    assert paired_permutation(ours, theirs, MEAN).p_value == pytest.approx(2 / 2**8)
    pairs = tuple("aabbccdd")
    assert paired_permutation(ours, theirs, MEAN, clusters=pairs).p_value == pytest.approx(2 / 2**4)


def test_mcnemar_raises_no_false_alarms() -> None:
    counts = np.random.default_rng(0).multinomial(300, [0.1, 0.1, 0.8], size=DATASETS)
    cached = cache(mcnemar_exact)
    alarms = sum(cached(int(first), int(second)) <= 0.05 for first, second, _ in counts)
    assert no_more_than_draws_can_tell(alarms, 0.05)
    assert alarms > 0.02 * DATASETS  # an exact test of counts is cautious, not blind


def test_permutation_of_f1_raises_no_false_alarms() -> None:
    rng = np.random.default_rng(1)
    cells = np.eye(6)
    kinds = [(truth * 3 + ours, truth * 3 + theirs) for truth in range(2) for ours in range(3) for theirs in range(3)]
    answers = np.array([[0.6, 0.3, 0.1], [0.2, 0.75, 0.05]])  # both candidates answer so, each for itself
    weights = [0.5 * answers[ours // 3, ours % 3] * answers[theirs // 3, theirs % 3] for ours, theirs in kinds]
    alarms = 0
    for seed, counts in enumerate(rng.multinomial(80, weights, size=DATASETS)):
        pairs = np.repeat(np.array(kinds), counts, axis=0)
        result = paired_permutation(cells[pairs[:, 0]], cells[pairs[:, 1]], F1.reduce, draws=999, seed=seed)
        alarms += result.p_value <= 0.05
    assert no_more_than_draws_can_tell(alarms, 0.05)
    assert alarms > 0.03 * DATASETS


def test_clustered_permutation_raises_no_false_alarms_where_the_plain_one_does() -> None:
    rng = np.random.default_rng(2)
    clusters = tuple(str(number) for number in np.repeat(np.arange(40), 4))
    alarms = plain_alarms = 0
    for seed in range(DATASETS):
        sides = [np.repeat(rng.normal(size=40), 4) + rng.normal(size=160) for _ in range(2)]
        first, second = (np.stack([side, np.ones(160)], axis=1) for side in sides)
        alarms += paired_permutation(first, second, MEAN, clusters=clusters, draws=499, seed=seed).p_value <= 0.05
        if seed < 400:
            plain_alarms += paired_permutation(first, second, MEAN, draws=499, seed=seed).p_value <= 0.05
    assert no_more_than_draws_can_tell(alarms, 0.05)
    assert alarms > 0.035 * DATASETS
    assert plain_alarms > 0.12 * 400


def test_holm_keeps_the_rate_of_any_false_alarm() -> None:
    p_values = np.random.default_rng(3).random((DATASETS, 6))
    p_values[:, 5] = 0.0  # one claim is true
    alarms = sum(min(list(holm(dict(enumerate(row.tolist()))).values())[:5]) <= 0.05 for row in p_values)
    assert no_more_than_draws_can_tell(alarms, 0.05)
    assert alarms > 0.035 * DATASETS


@pytest.mark.parametrize(("n", "differing", "comparisons"), [(100, 0.25, 1), (300, 0.25, 1), (300, 0.1, 12)])
def test_the_detectable_difference_is_detected_as_often_as_said(n: int, differing: float, comparisons: int) -> None:
    found = detectable_difference(n, differing=differing, comparisons=comparisons)
    assert found.difference is not None
    wins = (differing + found.difference) / 2
    counts = np.random.default_rng(4).multinomial(n, [wins, differing - wins, 1 - differing], size=DATASETS)
    cached = cache(mcnemar_exact)
    detected = sum(cached(int(first), int(second)) <= 0.05 / comparisons for first, second, _ in counts)
    low, high = stats.binom.interval(0.99, DATASETS, 0.8)
    assert low <= detected <= high
    # Connor 1987's approximation, which is of the test without the caution of exactness.
    z_level, z_power = stats.norm.ppf([1 - 0.05 / comparisons / 2, 0.8])
    needed = (
        z_level * np.sqrt(differing) + z_power * np.sqrt(differing - found.difference**2)
    ) ** 2 / found.difference**2
    assert 0.75 * n < needed < 1.05 * n


def test_more_data_detects_less_and_too_little_detects_nothing() -> None:
    differences = [detectable_difference(n).difference for n in (50, 100, 300, 1000)]
    assert all(difference is not None for difference in differences)
    assert sorted(differences, reverse=True) == differences  # type: ignore[type-var]
    nothing = detectable_difference(10)
    assert nothing.difference is None
    assert "10 examples no difference in accuracy can be detected" in str(nothing)
    assert mcnemar_power(300, 0.0, 0.25) <= 0.05
    sentence = str(detectable_difference(300, comparisons=4))
    assert "With 300 examples a difference in accuracy of " in sentence
    assert "shared by 4 comparisons" in sentence
    assert "25% of the examples" in sentence


@pytest.mark.parametrize("n", [10, 50, 300])
@pytest.mark.parametrize("comparisons", [1, 4])
def test_the_detectable_difference_of_a_mean_is_statsmodels(n: int, comparisons: int) -> None:
    expected = TTestPower().solve_power(nobs=n, alpha=0.05 / comparisons, power=0.8)
    found = detectable_mean_difference(n, deviation=3.0, comparisons=comparisons)
    assert found == pytest.approx(3 * expected, rel=0.02)
    assert detectable_mean_difference(2) is None


def test_the_detectable_difference_of_a_mean_is_detected_as_often_as_said() -> None:
    n, datasets = 60, 1_000
    difference = detectable_mean_difference(n, deviation=0.3)
    assert difference is not None
    rng = np.random.default_rng(5)
    detected = 0
    for seed in range(datasets):
        common = rng.random(n)
        first = common + difference + rng.laplace(scale=0.3 / np.sqrt(2), size=n)  # with long tails
        sides = [np.stack([side, np.ones(n)], axis=1) for side in (first, common)]
        detected += paired_permutation(*sides, MEAN, draws=499, seed=seed).p_value <= 0.05
    assert 0.75 < detected / datasets < 0.85
