"""Values with intervals, and differences with tests, by the method that suits the metric, replicates and clusters.

A candidate is a sequence of samples, its replicates over the same rows. Its value is the mean of the metric over the
replicates. The bootstrap resamples and the permutation test swaps whole rows (or clusters of rows), with the answers of
all replicates at once: three choices of examples do not turn 300 rows into 900.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

import numpy as np

from germinal.evaluation.intervals import DRAWS, Statistic, bootstrap, wilson
from germinal.evaluation.metric import FloatArray, Metric
from germinal.evaluation.metrics import metric_named
from germinal.evaluation.sample import Sample
from germinal.evaluation.significance import mcnemar_exact, paired_permutation

Candidate = Sequence[Sample]


@dataclass(frozen=True, slots=True)
class Estimate:
    """The value of a metric for one candidate.

    Attributes:
        metric: Name of the metric.
        value: Mean over the replicates.
        low: Lower end of the confidence interval.
        high: Upper end of the confidence interval.
        level: Confidence level of the interval.
        n: Number of rows.
        method: How the interval was computed ("Wilson", "bootstrap", "clustered bootstrap").
        replicates: The value of each replicate.
        spread: Standard deviation over the replicates, None if there is only one.
    """

    metric: str
    value: float
    low: float
    high: float
    level: float
    n: int
    method: str
    replicates: tuple[float, ...]
    spread: float | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """The difference between two candidates on the same rows, first minus second.

    Attributes:
        metric: Name of the metric.
        difference: Difference of the values.
        low: Lower end of the paired bootstrap interval of the difference.
        high: Upper end of that interval.
        level: Confidence level of the interval.
        p_value: Two-sided, not corrected for multiple comparisons.
        test: The test that the p-value is from.
        n: Number of rows.
        only_first: Number of rows on which only the first is right (mean over replicates).
        only_second: Number of rows on which only the second is right (mean over replicates).
    """

    metric: str
    difference: float
    low: float
    high: float
    level: float
    p_value: float
    test: str
    n: int
    only_first: float
    only_second: float


def estimate(metric: str, candidate: Candidate, *, level: float = 0.95, draws: int = DRAWS, seed: int = 0) -> Estimate:
    """Estimate a metric of a candidate, with Wilson's interval for proportions of independent rows, else bootstrap."""
    measured = metric_named(metric)
    first = _first(candidate)
    values = tuple(measured.point(sample) for sample in candidate)
    value = fmean(values)
    if measured.is_proportion and len(candidate) == 1 and first.clusters is None:
        low, high = wilson(round(value * len(first)), len(first), level)
        method = "Wilson"
    else:
        features, statistic = _joined(measured, candidate)
        low, high = bootstrap(features, statistic, clusters=first.clusters, level=level, draws=draws, seed=seed)
        method = "bootstrap" if first.clusters is None else "clustered bootstrap"
        if low == high and value in measured.bounds:
            low, high = _at_the_bound(measured, value, first, level)
            method = f"Wilson, as the {method} has no spread"
    spread = stdev(values) if len(values) > 1 else None
    return Estimate(metric, value, low, high, level, len(first), method, values, spread)


def compare(
    metric: str, first: Candidate, second: Candidate, *, level: float = 0.95, draws: int = DRAWS, seed: int = 0
) -> Comparison:
    """The difference between two candidates, with a paired test.

    The test is exact McNemar for a proportion if each has one sample and rows have no clusters, otherwise a paired
    permutation test. With replicates the latter swaps a row's mean over them, so the two may have different numbers of
    replicates.
    """
    measured = metric_named(metric)
    _first(first).require_same_rows(_first(second))
    rows = _first(first)
    only_first, only_second = _disagreements(first, second)
    if measured.is_proportion and len(first) == len(second) == 1 and rows.clusters is None:
        p_value = mcnemar_exact(round(only_first), round(only_second))
        test = "exact McNemar"
    else:
        result = paired_permutation(
            _pooled(measured, first),
            _pooled(measured, second),
            measured.reduce,
            clusters=rows.clusters,
            draws=draws,
            seed=seed,
        )
        p_value = result.p_value
        test = "exact paired permutation" if result.draws is None else f"paired permutation, {result.draws:,} draws"
    (ours, our_value), (theirs, their_value) = _joined(measured, first), _joined(measured, second)
    border = ours.shape[1]

    def difference(sums: FloatArray) -> FloatArray:
        return our_value(sums[..., :border]) - their_value(sums[..., border:])

    both = np.concatenate([ours, theirs], axis=1)
    low, high = bootstrap(both, difference, clusters=rows.clusters, level=level, draws=draws, seed=seed)
    observed = float(difference(both.sum(0)))
    return Comparison(metric, observed, low, high, level, p_value, test, len(rows), only_first, only_second)


def _first(candidate: Candidate) -> Sample:
    if not candidate:
        raise ValueError("a candidate needs at least one sample")
    for sample in candidate[1:]:
        candidate[0].require_same_rows(sample)
    return candidate[0]


def _joined(metric: Metric, candidate: Candidate) -> tuple[FloatArray, Statistic]:
    """Features of all R replicates concatenated, [N, R * F], and the mean of the metric over them."""
    features = [metric.features(sample) for sample in candidate]

    def statistic(sums: FloatArray) -> FloatArray:
        parts = np.split(sums, len(features), axis=-1)
        return np.asarray(np.mean([metric.reduce(part) for part in parts], axis=0))

    return np.concatenate(features, axis=1), statistic


def _pooled(metric: Metric, candidate: Candidate) -> FloatArray:
    """Mean features over the replicates, [N, F]."""
    return np.asarray(np.mean([metric.features(sample) for sample in candidate], axis=0))


def _disagreements(first: Candidate, second: Candidate) -> tuple[float, float]:
    """Number of rows that only one of the two got right (texts: exact match), averaged over pairs of replicates."""
    right = metric_named("accuracy" if first[0].labels else "exact_match")
    ours, theirs = (_pooled(right, candidate)[:, 0] for candidate in (first, second))
    return float((ours * (1 - theirs)).sum()), float((theirs * (1 - ours)).sum())


def _at_the_bound(metric: Metric, value: float, rows: Sample, level: float) -> tuple[float, float]:
    """Interval of a best or worst possible value, for which every bootstrap draw gives the same value.

    A bootstrap interval of zero width would say nothing about unseen rows. Wilson's interval of a proportion of 0 or 1
    of the rows (or clusters) does; it is scaled to the bounds of the metric.
    """
    lowest, highest = metric.bounds
    if highest is None:
        return value, value
    n = len(rows) if rows.clusters is None else len(set(rows.clusters))
    low, high = wilson(n if value == highest else 0, n, level)
    return lowest + low * (highest - lowest), lowest + high * (highest - lowest)
