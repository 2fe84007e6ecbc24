"""Paired tests of two candidates on the same rows, and Holm's correction for multiple comparisons.

`mcnemar_exact` is for right and wrong answers of one sample each. `paired_permutation` is for any metric: under the
null hypothesis that the candidates do not differ, their answers to a row (or to all rows of a source) are exchangeable.
So the observed difference is compared with those of all swaps or, if they are too many, of a seeded random draw of
swaps (Good 2005).

Shapes: N rows (or clusters), U distinct pairs of rows, F features, D draws.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from germinal.evaluation.intervals import DRAWS, Statistic, sum_by_cluster
from germinal.evaluation.metric import FloatArray

_MOST_EXACT = 1 << 16
_MOST_NUMBERS = 4_000_000


@dataclass(frozen=True, slots=True)
class Permutation:
    """Result of a permutation test; `draws` is None if all swaps were enumerated."""

    p_value: float
    draws: int | None


def mcnemar_exact(only_first: int, only_second: int) -> float:
    """Two-sided p-value of the exact McNemar test (McNemar 1947).

    Args:
        only_first: Rows that only the first candidate got right.
        only_second: Rows that only the second got right.
    """
    differing = only_first + only_second
    return float(stats.binomtest(only_first, differing, 0.5).pvalue) if differing else 1.0


def paired_permutation(
    first: FloatArray,
    second: FloatArray,
    statistic: Statistic,
    *,
    clusters: Sequence[str] | None = None,
    draws: int = DRAWS,
    seed: int = 0,
) -> Permutation:
    """Two-sided test of `statistic(first.sum(0)) - statistic(second.sum(0))` against swaps of whole rows.

    A p-value from drawn swaps includes the observed assignment (Phipson & Smyth 2010), so it is never zero.
    """
    pairs = np.concatenate([sum_by_cluster(first, clusters), sum_by_cluster(second, clusters)], axis=1)  # [N, 2F]
    distinct, counts = np.unique(pairs, axis=0, return_counts=True)
    ours, theirs = np.split(distinct, 2, axis=1)  # [U, F] each
    first_total, second_total = counts @ ours, counts @ theirs
    observed = abs(float(statistic(first_total) - statistic(second_total)))
    differing = (ours != theirs).any(axis=1)
    steps, counts = (theirs - ours)[differing], counts[differing]  # what one swap moves from second to first

    def as_extreme(swapped: FloatArray) -> NDArray[np.bool_]:
        moved = swapped @ steps  # [D, F]
        difference = statistic(first_total + moved) - statistic(second_total - moved)
        return np.abs(difference) >= observed - 1e-12

    ways = math.prod(int(count) + 1 for count in counts)
    if ways <= _MOST_EXACT and ways * steps.shape[1] <= _MOST_NUMBERS:
        swapped, weights = _all_swaps(counts)
        return Permutation(min(1.0, float(weights @ as_extreme(swapped))), None)
    hits = sum(int(as_extreme(swapped).sum()) for swapped in _drawn_swaps(steps, counts, draws, seed))
    return Permutation((hits + 1) / (draws + 1), draws)


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Holm's step-down adjusted p-values (Holm 1979): a value of at most alpha is significant at family level alpha."""
    adjusted: dict[str, float] = {}
    highest = 0.0
    for rank, name in enumerate(sorted(p_values, key=lambda name: p_values[name])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[name]))
        adjusted[name] = highest
    return {name: adjusted[name] for name in p_values}


def _all_swaps(counts: NDArray[np.int64]) -> tuple[FloatArray, FloatArray]:
    """All combinations of numbers of swapped pairs of each kind, [D, U], and the probability of each, [D]."""
    choices = [np.arange(count + 1) for count in counts]
    grid = (
        np.stack([axis.ravel() for axis in np.meshgrid(*choices, indexing="ij")], axis=-1)
        if choices
        else np.zeros((1, 0))
    )
    logs = special.gammaln(counts + 1) - special.gammaln(grid + 1) - special.gammaln(counts - grid + 1)
    return grid.astype(np.float64), np.exp(logs.sum(-1) - counts.sum() * math.log(2))


def _drawn_swaps(steps: FloatArray, counts: NDArray[np.int64], draws: int, seed: int) -> Iterator[FloatArray]:
    """Random numbers of swapped pairs of each kind, [D, U], in blocks that keep memory small."""
    generator = np.random.default_rng(seed)
    block = max(1, _MOST_NUMBERS // max(steps.shape))
    for start in range(0, draws, block):
        size = (min(block, draws - start), len(counts))
        yield generator.binomial(counts, 0.5, size=size).astype(np.float64)
