"""Confidence intervals: Wilson's for proportions, the bootstrap for everything else.

The bootstrap resamples rows, or whole clusters of rows that share a source, and takes the BCa interval (Efron 1987,
"Better bootstrap confidence intervals"): percentiles corrected for bias and for a variance that changes with the value,
which matters with the few hundred rows of a dev split. Metrics are functions of sums over rows
(`germinal.evaluation.metric`), so a draw is a vector of counts, and ten thousand draws are one matrix product. Equal
rows are merged first and drawn from a multinomial, which gives the same distribution with far fewer numbers.

Shapes: N rows (or clusters), U distinct rows, F features, D draws.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from germinal.evaluation.metric import FloatArray

Statistic = Callable[[FloatArray], FloatArray]
"""Sums [..., F] -> values [...]."""

DRAWS = 10_000
_NUMBERS_AT_ONCE = 4_000_000


def wilson(successes: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval for a proportion (Wilson 1927)."""
    interval = stats.binomtest(successes, n).proportion_ci(confidence_level=level, method="wilson")
    return float(interval.low), float(interval.high)


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
