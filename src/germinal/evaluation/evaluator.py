"""Values with intervals, and differences with tests, by the method that suits the metric, replicates and clusters.

A candidate is a sequence of samples, its replicates over the same rows. Its value is the mean of the metric over the
replicates. Intervals resample and the permutation test swaps whole rows (or clusters of rows), with the answers of all
replicates at once: three choices of examples do not turn 300 rows into 900.

A paired test of G units has no p-value below 2^(1-G), however much the candidates differ (Phipson & Smyth 2010): with
five groups it cannot show anything at the level of 5%. The name of the test says so then.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

import numpy as np

from germinal.evaluation.intervals import (
    DRAWS,
    Interval,
    Statistic,
    newcombe,
    resampled,
    sum_by_cluster,
    wilson,
)
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
        low: Lower end of the confidence interval, None if no interval can be given.
        high: Upper end, likewise.
        level: Confidence level of the interval.
        n: Number of rows.
        method: How the interval was computed ("Wilson", "bootstrap", "jackknife over 7 groups"), or why there is none.
        replicates: The value of each replicate.
        spread: Standard deviation over the replicates, None if there is only one.
        units: Number of independent units, see `Sample.units`; None if it is that of the rows.
    """

    metric: str
    value: float
    low: float | None
    high: float | None
    level: float
    n: int
    method: str
    replicates: tuple[float, ...]
    spread: float | None
    units: int | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """The difference between two candidates on the same rows, first minus second.

    Attributes:
        metric: Name of the metric.
        difference: Difference of the values.
        low: Lower end of the paired interval of the difference, None if no interval can be given.
        high: Upper end of that interval, likewise.
        level: Confidence level of the interval.
        p_value: Two-sided, not corrected for multiple comparisons.
        test: The test that the p-value is from.
        n: Number of rows.
        only_first: Number of rows on which only the first is right (mean over replicates).
        only_second: Number of rows on which only the second is right (mean over replicates).
        method: How the interval was computed, or why there is none.
    """

    metric: str
    difference: float
    low: float | None
    high: float | None
    level: float
    p_value: float
    test: str
    n: int
    only_first: float
    only_second: float
    method: str


def estimate(metric: str, candidate: Candidate, *, level: float = 0.95, draws: int = DRAWS, seed: int = 0) -> Estimate:
    """Estimate a metric of a candidate: Wilson's interval for a proportion of independent rows, else by resampling.

    See `germinal.evaluation.intervals` for what is done with few units, or units that do not differ.
    """
    measured = metric_named(metric)
    first = _first(candidate)
    values = tuple(measured.point(sample) for sample in candidate)
    value = fmean(values)
    if measured.is_proportion and len(candidate) == 1 and first.clusters is None:
        found = Interval(*wilson(round(value * len(first)), len(first), level), "Wilson")
    else:
        features, statistic = _joined(measured, candidate)
        found = resampled(
            features,
            statistic,
            clusters=first.clusters,
            bounds=measured.bounds,
            level=level,
            draws=draws,
            seed=seed,
        )
        if found.low is None and (measured.is_unit_mean or value in measured.bounds):
            found = _of_a_share(measured, value, first, level, found)
    spread = stdev(values) if len(values) > 1 else None
    return Estimate(metric, value, found.low, found.high, level, len(first), found.method, values, spread, first.units)


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
    if smallest_p(rows) > 1 - level:
        kind = "row" if rows.clusters is None else "group"
        many = f"{rows.units} {kind}s give" if rows.units > 1 else f"1 {kind} gives"
        test += f" ({many} no p-value below {smallest_p(rows):.2g})"
    observed, found = _difference(measured, first, second, level=level, draws=draws, seed=seed)
    return Comparison(
        metric,
        observed,
        found.low,
        found.high,
        level,
        p_value,
        test,
        len(rows),
        only_first,
        only_second,
        found.method,
    )


def smallest_p(rows: Sample) -> float:
    """The smallest p-value that a two-sided paired test of so many units can give."""
    return min(1.0, 2.0 ** (1 - rows.units))


def _difference(
    metric: Metric, first: Candidate, second: Candidate, *, level: float, draws: int, seed: int
) -> tuple[float, Interval]:
    """The difference of two candidates' values, and its interval."""
    (ours, our_value), (theirs, their_value) = _joined(metric, first), _joined(metric, second)
    border = ours.shape[1]

    def difference(sums: FloatArray) -> FloatArray:
        return our_value(sums[..., :border]) - their_value(sums[..., border:])

    both, rows = np.concatenate([ours, theirs], axis=1), first[0]
    least, greatest = metric.bounds
    bounds = (-math.inf, None) if greatest is None else (least - greatest, greatest - least)
    found = resampled(both, difference, clusters=rows.clusters, bounds=bounds, level=level, draws=draws, seed=seed)
    if found.low is None and metric.is_unit_mean:
        ahead = sum_by_cluster(_pooled(metric, first) - _pooled(metric, second), rows.clusters)[:, 0] / len(rows)  # [N]
        gained, lost = (rows.units * float(np.clip(side, 0, None).sum()) for side in (ahead, -ahead))
        found = Interval(*newcombe(gained, lost, rows.units, level), _instead("Newcombe", found))
    return float(difference(both.sum(0))), found


def _instead(method: str, found: Interval) -> str:
    """The name of the method that gives an interval where resampling gave none, with the reason."""
    return f"{method}, {found.method.removeprefix('none, ')}"


def _of_a_share(metric: Metric, value: float, rows: Sample, level: float, found: Interval) -> Interval:
    """Wilson's interval with the units as its sample, where resampling found none.

    At its best or worst value any metric is taken for what it then is: a share of all units, or of none of them.
    """
    least, greatest = metric.bounds
    if greatest is None:
        return found
    width = greatest - least
    low, high = wilson((value - least) / width * rows.units, rows.units, level)
    return Interval(least + low * width, least + high * width, _instead("Wilson", found))


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
