"""Intervals against scipy and statsmodels, and their coverage by simulation."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from germinal.evaluation.intervals import bootstrap, sum_by_cluster, wilson
from germinal.evaluation.metrics import METRICS
from germinal.evaluation.sample import Sample

DATASETS = 2_000
MEAN = METRICS["accuracy"].reduce


def within_what_draws_can_tell(hits: int, probability: float) -> bool:
    """Whether so many hits among the simulated data sets are no surprise (1 in 100) at the given probability."""
    low, high = stats.binom.interval(0.99, DATASETS, probability)
    return bool(low <= hits <= high)


def scores_with_count(scores: np.ndarray) -> np.ndarray:
    return np.stack([scores, np.ones(len(scores))], axis=1)


@pytest.mark.parametrize(("successes", "n"), [(0, 10), (1, 10), (10, 10), (37, 50), (250, 300)])
@pytest.mark.parametrize("level", [0.9, 0.95])
def test_wilson_is_statsmodels(successes: int, n: int, level: float) -> None:
    expected = proportion_confint(successes, n, alpha=1 - level, method="wilson")
    assert wilson(successes, n, level) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("method", ["bca", "percentile"])
def test_the_bootstrap_is_scipys(method: str) -> None:
    scores = np.random.default_rng(5).exponential(size=40)
    ours = bootstrap(scores_with_count(scores), MEAN, method=method, draws=40_000)
    theirs = stats.bootstrap(
        (scores,), np.mean, n_resamples=40_000, method="BCa" if method == "bca" else "percentile", rng=1
    ).confidence_interval
    # Ends of 40,000 draws of a mean with standard error 0.15 differ by chance in the third place.
    assert ours == pytest.approx((theirs.low, theirs.high), abs=0.012)
    plain = bootstrap(scores_with_count(scores), MEAN, method="percentile", draws=40_000)
    if method == "bca":
        assert ours[1] > plain[1] + 0.01  # the skew is seen


def test_the_same_seed_gives_the_same_interval(make_sample: Callable[..., Sample]) -> None:
    features = METRICS["f1_macro"].features(make_sample(3))
    first, again, other = (bootstrap(features, METRICS["f1_macro"].reduce, seed=seed) for seed in (1, 1, 2))
    assert first == again != other
    assert first == pytest.approx(other, abs=0.02)


def test_blocks_do_not_show(monkeypatch: pytest.MonkeyPatch, make_sample: Callable[..., Sample]) -> None:
    features = METRICS["log_loss"].features(make_sample(3))
    whole = bootstrap(features, MEAN, draws=500)
    monkeypatch.setattr("germinal.evaluation.intervals._NUMBERS_AT_ONCE", 7_000)
    assert bootstrap(features, MEAN, draws=500) == pytest.approx(whole, abs=1e-12)


def test_a_cluster_is_drawn_whole() -> None:
    scores = np.array([1.0, 1.0, 0.0, 0.0])
    clusters = ("a", "a", "b", "b")
    assert sum_by_cluster(scores_with_count(scores), clusters).tolist() == [[2, 2], [0, 2]]
    low, high = bootstrap(scores_with_count(scores), MEAN, clusters=clusters, method="percentile")
    assert (low, high) == (0, 1)
    with pytest.raises(ValueError, match="no bootstrap method"):
        bootstrap(scores_with_count(scores), MEAN, method="studentised")


def test_wilson_covers() -> None:
    rng = np.random.default_rng(0)
    truths = rng.uniform(0.05, 0.95, size=DATASETS)  # coverage swings with the truth; its mean is the level
    hits = 0
    for truth, successes in zip(truths, rng.binomial(120, truths), strict=True):
        low, high = wilson(int(successes), 120)
        hits += low <= truth <= high
    assert within_what_draws_can_tell(hits, 0.95)


@pytest.mark.parametrize("name", ["f1_macro", "matthews"])
def test_the_bootstrap_covers_functions_of_the_confusion_matrix(name: str) -> None:
    metric = METRICS[name]
    cells = np.array([0.40, 0.08, 0.02, 0.12, 0.36, 0.02])  # two labels, and failures
    truth = float(metric.reduce(cells))
    hits = 0
    for seed, counts in enumerate(np.random.default_rng(1).multinomial(100, cells, size=DATASETS)):
        low, high = bootstrap(np.repeat(np.eye(6), counts, axis=0), metric.reduce, draws=1000, seed=seed)
        hits += low <= truth <= high
    assert within_what_draws_can_tell(hits, 0.95)


def test_the_bootstrap_covers_paired_differences() -> None:
    rng = np.random.default_rng(2)
    both, first, second, neither = 0.55, 0.20, 0.10, 0.15
    kinds = np.array([[1, 1, 1], [1, 0, 1], [0, 1, 1], [0, 0, 1]], dtype=float)
    hits = 0
    for seed, counts in enumerate(rng.multinomial(150, [both, first, second, neither], size=DATASETS)):
        low, high = bootstrap(
            np.repeat(kinds, counts, axis=0),
            lambda sums: (sums[..., 0] - sums[..., 1]) / sums[..., 2],
            draws=1000,
            seed=seed,
        )
        hits += low <= first - second <= high
    assert within_what_draws_can_tell(hits, 0.95)


def test_the_bootstrap_covers_the_mean_of_replicates_and_counting_them_as_rows_does_not() -> None:
    rng = np.random.default_rng(3)
    rows, replicates, hits, naive_hits = 100, 3, 0, 0
    for seed in range(DATASETS):
        easy = rng.beta(1.5, 0.5, size=rows)  # a row that is easy is so for every choice of examples: mean 0.75
        right = rng.random((rows, replicates)) < easy[:, None]
        low, high = bootstrap(scores_with_count(right.mean(1)), MEAN, draws=600, seed=seed)
        hits += low <= 0.75 <= high
        low, high = wilson(int(right.sum()), right.size)
        naive_hits += low <= 0.75 <= high
    assert within_what_draws_can_tell(hits, 0.95)
    assert naive_hits < 0.9 * DATASETS


def test_the_clustered_bootstrap_covers_and_the_plain_one_does_not() -> None:
    rng = np.random.default_rng(4)
    sources, size, hits, plain_hits = 80, 5, 0, 0
    clusters = tuple(str(number) for number in np.repeat(np.arange(sources), size))
    for seed in range(DATASETS):
        ease = np.repeat(rng.beta(2, 1, size=sources), size)  # mean 2 / 3
        features = scores_with_count((rng.random(sources * size) < ease).astype(float))
        low, high = bootstrap(features, MEAN, clusters=clusters, draws=600, seed=seed)
        hits += low <= 2 / 3 <= high
        low, high = bootstrap(features, MEAN, draws=200, seed=seed, method="percentile")
        plain_hits += low <= 2 / 3 <= high
    assert within_what_draws_can_tell(hits, 0.95)
    assert plain_hits < 0.9 * DATASETS
