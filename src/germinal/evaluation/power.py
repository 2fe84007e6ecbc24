"""The smallest difference that a number of rows can detect; the plan states it before anything runs.

Two candidates answer the same rows and are compared by the exact McNemar test. Its power depends on how many rows
exactly one of them gets right: if the two agree on most rows, a smaller difference suffices. The calculation is exact,
a sum over the binomial number of such rows and how many of them each side wins (Connor 1987 has the approximation).

A metric that is not a share of right answers can differ in every row, and its power depends on how much those
differences vary: `detectable_mean_difference` uses the usual approximation for the paired t test, which is close to the
permutation test of a mean.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats


@dataclass(frozen=True, slots=True)
class Detectable:
    """The smallest true difference that is detected with the given power.

    Attributes:
        difference: In the unit of accuracy (0.08 is 8 points), or None if not even the largest possible is detected.
        n: Number of rows.
        differing: Assumed share of rows on which exactly one of the two is right.
        level: Two-sided significance level, before it is divided among the comparisons.
        power: Probability of detecting the difference.
        comparisons: Number of comparisons that share the level (Holm's first step, the strictest).
    """

    difference: float | None
    n: int
    differing: float
    level: float
    power: float
    comparisons: int

    def __str__(self) -> str:
        if self.difference is None:
            found = "no difference in accuracy can be detected reliably"
        else:
            points = f"{100 * self.difference:.1f} points"
            found = f"a difference in accuracy of {points} is detected {self.power:.0%} of the time"
        shared = f", shared by {self.comparisons} comparisons" if self.comparisons > 1 else ""
        return (
            f"With {self.n} examples {found} (paired exact McNemar test at level {self.level:g}{shared}, if exactly "
            f"one of the two is right on {self.differing:.0%} of the examples)."
        )


def detectable_difference(
    n: int, *, differing: float = 0.25, level: float = 0.05, power: float = 0.8, comparisons: int = 1
) -> Detectable:
    """The smallest difference in accuracy that n paired rows detect.

    Args:
        differing: Share of rows on which exactly one of the two is right. A quarter is typical of two classifiers with
            accuracies near 0.8 and nearly independent errors; use the observed share once there is one.
        comparisons: Number of comparisons that Holm's correction shares the level among.
    """
    limit = _win_limit(n, level / comparisons)
    found: float | None = None
    if mcnemar_power(n, differing, differing, limit=limit) >= power:
        # Power grows with the difference, and at difference 0 it is at most the level.
        found = float(optimize.brentq(lambda d: mcnemar_power(n, d, differing, limit=limit) - power, 0.0, differing))
    return Detectable(found, n, differing, level, power, comparisons)


def detectable_mean_difference(
    n: int, *, deviation: float = 0.2, level: float = 0.05, power: float = 0.8, comparisons: int = 1
) -> float | None:
    """The smallest difference in a mean over rows that n paired rows detect, or None if there are too few rows.

    Args:
        deviation: Standard deviation of the rows' differences, in the unit of the metric, like the result. The default
            assumes a scale of 0 to 1 and is in the middle of observed values: for ROUGE-L and chrF of the first
            sentence against the nearest training row, 0.14 to 0.31 of the scale on titles, summaries and translations.
            Use the observed deviation once there is one.
        comparisons: Number of comparisons that Holm's correction shares the level among.
    """
    if n < 3:
        return None
    quantiles = stats.t.isf([level / comparisons / 2, 1 - power], n - 1)
    return deviation * float(quantiles.sum()) / math.sqrt(n)


def mcnemar_power(
    n: int, difference: float, differing: float, level: float = 0.05, *, limit: NDArray[np.float64] | None = None
) -> float:
    """Exact power of the two-sided exact McNemar test for a true difference in accuracy."""
    limit = _win_limit(n, level) if limit is None else limit
    rows = np.arange(n + 1)
    wins = (differing + difference) / (2 * differing)  # share of differing rows that the better candidate wins
    rejects = stats.binom.cdf(limit, rows, wins) + stats.binom.sf(rows - limit - 1, rows, wins)
    return float(stats.binom.pmf(rows, n, differing) @ rejects)


def _win_limit(n: int, level: float) -> NDArray[np.float64]:
    """For 0..n differing rows, the largest number of wins of the worse side at which the test rejects; -1 if none."""
    rows = np.arange(n + 1)
    guess = stats.binom.ppf(level / 2, rows, 0.5)
    limit = np.where(stats.binom.cdf(guess, rows, 0.5) <= level / 2, guess, guess - 1)
    return np.asarray(np.where(rows == 0, -1, limit), dtype=np.float64)
