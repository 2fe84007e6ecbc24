"""Confidence intervals: Wilson's for proportions; for everything else the bootstrap, or with few units the jackknife.

A unit is a row, or a whole group of rows that share a source. Metrics are functions of sums over units
(`germinal.evaluation.metric`), which both methods use.

- With `ENOUGH_UNITS` or more, the bootstrap over units and its BCa interval (Efron 1987, "Better bootstrap confidence
  intervals"): percentiles corrected for bias and for a variance that changes with the value. A draw is a vector of
  counts, and ten thousand draws are one matrix product. Equal rows are merged first and drawn from a multinomial, which
  gives the same distribution with far fewer numbers. As draws from N units spread less than samples of N do, the
  percentiles are taken a little further out, as far as t's quantile says (Hesterberg 2015, section 5.1, "expanded").
- With fewer, percentiles of so few values are too narrow (a nominal 95% covers 75% to 80% at three groups). There the
  interval is the jackknife's standard error times the quantile of t with one degree of freedom less than units (Tukey
  1958; Efron & Tibshirani 1993, ch. 11; Cameron & Miller 2015 on few clusters). Between finite bounds it has the form
  of Wilson's interval with the effective sample size that this standard error implies (Korn & Graubard 1998; Franco,
  Little, Louis & Slud 2019): near a bound, where the symmetric form covers 80% to 90%, this covers 90% to 97%.
- Where units do not differ, or there are fewer than `FEWEST_UNITS`, resampling says nothing about unseen ones, and an
  interval of no width would be a claim of certainty. A mean of scores from 0 to 1 has Wilson's interval with the units
  as its sample then, which is wider than such a mean needs; a difference of two has Newcombe's square-and-add of both
  sides (1998, Statistics in Medicine 17:2635). Any other metric has no interval, unless its value is the best or worst
  there is.

Shapes: N units, U distinct units, F features, D draws.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from germinal.evaluation.metric import FloatArray

Statistic = Callable[[FloatArray], FloatArray]
"""Sums [..., F] -> values [...]."""

Bounds = tuple[float, float | None]

DRAWS = 10_000
ENOUGH_UNITS = 20
"""From so many units the interval is the bootstrap's."""
FEWEST_UNITS = 3
"""Fewer units have no spread to speak of."""
_NUMBERS_AT_ONCE = 4_000_000
_NO_SPREAD = 1e-12


@dataclass(frozen=True, slots=True)
class Interval:
    """Two ends, both None where no interval can be given, and how they were computed, or why they were not."""

    low: float | None
    high: float | None
    method: str


def wilson(successes: float, n: float, level: float = 0.95, *, quantile: float | None = None) -> tuple[float, float]:
    """Wilson's score interval for a proportion (Wilson 1927).

    Args:
        successes: May lie between whole numbers: a sum of scores from 0 to 1.
        n: Likewise, an effective sample size.
        quantile: Of the distribution that the ends come from, if it is not the normal one.
    """
    z = float(special.ndtri((1 + level) / 2)) if quantile is None else quantile
    share, extra = successes / n, z * z / n
    middle = share + extra / 2
    half = z * math.sqrt(max(share * (1 - share), 0.0) / n + extra / (4 * n))
    low, high = (middle - half) / (1 + extra), (middle + half) / (1 + extra)
    return (0.0 if share <= 0 else max(low, 0.0)), (1.0 if share >= 1 else min(high, 1.0))


def newcombe(gained: float, lost: float, n: int, level: float = 0.95) -> tuple[float, float]:
    """Interval of a paired difference of two means of scores from 0 to 1, from Wilson's of what each side is ahead.

    Args:
        gained: Sum over the units of what the first is ahead by.
        lost: The same for the second; the difference is (gained - lost) / n.
    """
    (low, high), (low_lost, high_lost) = wilson(gained, n, level), wilson(lost, n, level)
    ahead, behind = gained / n, lost / n
    below = math.hypot(ahead - low, high_lost - behind)
    above = math.hypot(high - ahead, behind - low_lost)
    return max(ahead - behind - below, -1.0), min(ahead - behind + above, 1.0)


def resampled(
    features: FloatArray,
    statistic: Statistic,
    *,
    clusters: Sequence[str] | None,
    bounds: Bounds,
    level: float = 0.95,
    draws: int = DRAWS,
    seed: int = 0,
) -> Interval:
    """The interval of `statistic(features.sum(0))` that suits the number of units; none if they are too few or alike.

    Args:
        features: The contribution of each row to the sums, [rows, F].
        clusters: The group of each row; rows of one are one unit.
        bounds: Least and greatest value of the statistic; the latter is None if there is none.
    """
    units, kind = sum_by_cluster(features, clusters), "rows" if clusters is None else "groups"
    n = len(units)
    if n < FEWEST_UNITS:
        return Interval(None, None, f"none, as there {'are 2 ' + kind if n == 2 else 'is 1 ' + kind[:-1]}")
    if n < ENOUGH_UNITS:
        ends, method = jackknife(units, statistic, bounds=bounds, level=level), f"jackknife over {n} {kind}"
    else:
        ends = bootstrap(units, statistic, level=_expanded(level, n), draws=draws, seed=seed)
        method = "bootstrap" if clusters is None else "clustered bootstrap"
    if ends is None or not ends[1] - ends[0] > _NO_SPREAD:
        return Interval(None, None, f"none, as the {method} has no spread")
    return Interval(*ends, method)


def _expanded(level: float, n: int) -> float:
    """The level at which the percentiles of the bootstrap lie as far out as `level` means for n units."""
    quantile = math.sqrt(n / (n - 1)) * float(stats.t.isf((1 - level) / 2, n - 1))
    return 1 - 2 * float(special.ndtr(-quantile))


def jackknife(
    units: FloatArray, statistic: Statistic, *, bounds: Bounds, level: float = 0.95
) -> tuple[float, float] | None:
    """Interval of `statistic(units.sum(0))` from the values without each of the N units; None if these do not differ.

    Args:
        units: [N, F].
    """
    n, total = len(units), units.sum(0)
    value, left_out = float(statistic(total)), statistic(total - units)  # [N]
    error = math.sqrt((n - 1) * float(np.var(left_out)))
    if not math.isfinite(value) or not error > _NO_SPREAD:
        return None
    quantile = float(stats.t.isf((1 - level) / 2, n - 1))
    least, greatest = bounds
    if greatest is None:
        return max(value - quantile * error, least), value + quantile * error
    width = greatest - least
    share, error = (value - least) / width, error / width
    if not 0 < share < 1:
        low, high = max(share - quantile * error, 0.0), min(share + quantile * error, 1.0)
    else:
        effective = share * (1 - share) / error**2
        low, high = wilson(share * effective, effective, quantile=quantile)
    return least + low * width, least + high * width


def bootstrap(
    features: FloatArray,
    statistic: Statistic,
    *,
    clusters: Sequence[str] | None = None,
    level: float = 0.95,
    draws: int = DRAWS,
    seed: int = 0,
    method: str = "bca",
) -> tuple[float, float]:
    """Bootstrap interval of `statistic(features.sum(0))`.

    Args:
        features: The contribution of each row to the sums, [N, F].
        clusters: The source of each row; if given, sources are resampled instead of rows.
        method: "bca" or "percentile". BCa falls back to percentiles where it is undefined (all draws equal, or all on
            one side of the value).
    """
    rows = sum_by_cluster(features, clusters)  # [N, F]
    distinct, counts = np.unique(rows, axis=0, return_counts=True)  # [U, F], [U]
    values = np.concatenate([statistic(sums) for sums in _drawn_sums(distinct, counts, draws, seed)])  # [D]
    values = values[np.isfinite(values)]
    tails = np.array([(1 - level) / 2, (1 + level) / 2])
    if method == "bca":
        tails = _bca_tails(tails, values, distinct, counts, statistic)
    elif method != "percentile":
        raise ValueError(f"no bootstrap method {method!r}")
    low, high = np.quantile(values, tails)
    return float(low), float(high)


def sum_by_cluster(features: FloatArray, clusters: Sequence[str] | None) -> FloatArray:
    """Sum the rows of each cluster, [N, F]; without clusters the rows themselves."""
    if clusters is None:
        return features
    names, index = np.unique(np.asarray(clusters), return_inverse=True)
    sums = np.zeros((len(names), features.shape[1]))
    np.add.at(sums, index, features)
    return sums


def _drawn_sums(distinct: FloatArray, counts: NDArray[np.int64], draws: int, seed: int) -> Iterator[FloatArray]:
    """Sums of rows drawn with replacement, [D, F], in blocks that keep memory small."""
    generator = np.random.default_rng(seed)
    n = int(counts.sum())
    block = max(1, _NUMBERS_AT_ONCE // max(distinct.shape))
    for start in range(0, draws, block):
        yield generator.multinomial(n, counts / n, size=min(block, draws - start)) @ distinct


def _bca_tails(
    tails: FloatArray, values: FloatArray, distinct: FloatArray, counts: NDArray[np.int64], statistic: Statistic
) -> FloatArray:
    """The quantiles of the draws that are the ends of the BCa interval."""
    total = counts @ distinct  # [F]
    value = statistic(total)
    below = (np.mean(values < value) + np.mean(values <= value)) / 2  # ties count half: metrics are often discrete
    if not 0 < below < 1:
        return tails
    left_out = statistic(total - distinct)  # [U], the jackknife
    deviations = np.average(left_out, weights=counts) - left_out
    spread = counts @ deviations**2
    if not np.isfinite(spread) or spread == 0:
        return tails
    acceleration = (counts @ deviations**3) / (6 * spread**1.5)
    bias = special.ndtri(below)
    shifted = bias + special.ndtri(tails)
    return np.asarray(special.ndtr(bias + shifted / (1 - acceleration * shifted)), dtype=np.float64)
