"""`Metric`: the value of a sample, and the same as a function of sums over rows.

Intervals and paired tests evaluate a metric about ten thousand times, on resampled or swapped rows. Every metric here
is a function of sums, so besides `point` it has

- `features`: the contribution of each row to the sums, [N, F], and
- `reduce`: the metric from sums, [..., F] -> [...], batched.

`reduce(features(sample).sum(0))` equals `point(sample)`; a test checks that for every metric.

Shapes: N rows, F features.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from germinal.evaluation.sample import Sample

FloatArray = NDArray[np.float64]

Answers = Literal["labels", "text"]
"""Kind of answers of a task, which determines the metrics that apply to it."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric and how to compute it.

    Attributes:
        name: Name in germinal.toml.
        title: Name in tables and figures.
        higher_is_better: The direction.
        needs_probabilities: Whether it can only be computed for trials that give probabilities.
        bounds: Least and greatest value; the latter is None if unbounded.
        point: The value of a sample.
        features: The contribution of each row to the sums, [N, F].
        reduce: The value from sums, [..., F] -> [...].
        is_proportion: Whether the value is a share of rows, so that exact methods for proportions apply.
        answers: Whether it is a metric of labels or of texts.
        reduce_row: The value of a single row from its features, if it differs from `reduce`.
        library: The package that computes `point`, if it is not one that all metrics depend on.
        settings: Describes the library's version and settings, for reproducing the value with other tools.
    """

    name: str
    title: str
    higher_is_better: bool
    needs_probabilities: bool
    bounds: tuple[float, float | None]
    point: Callable[[Sample], float]
    features: Callable[[Sample], FloatArray]
    reduce: Callable[[FloatArray], FloatArray]
    is_proportion: bool = False
    answers: Answers = "labels"
    reduce_row: Callable[[FloatArray], FloatArray] | None = None
    library: str | None = None
    settings: Callable[[], str] | None = None

    @property
    def is_unit_mean(self) -> bool:
        """Whether the value is a mean over rows of scores from 0 to 1, such as a share of rows."""
        return self.reduce is mean and self.bounds == (0, 1)

    def has_figure(self, sample: Sample) -> bool:
        """Whether this metric can be computed for the sample."""
        fits = (self.answers == "labels") == bool(sample.labels)
        return fits and (sample.probabilities is not None or not self.needs_probabilities)

    def of_rows(self, sample: Sample) -> FloatArray:
        """The value of each row by itself, [N]. For inspection only: not every metric is the mean of these."""
        return (self.reduce_row or self.reduce)(self.features(sample))


def with_count(scores: FloatArray) -> FloatArray:
    """Features of a mean over rows, [N, 2]: the row's score, and 1."""
    return np.stack([scores, np.ones_like(scores)], axis=-1)


def mean(sums: FloatArray) -> FloatArray:
    """The mean over rows from sums of `with_count`."""
    return divided(sums[..., 0], sums[..., 1])


def divided(numerator: FloatArray, denominator: FloatArray) -> FloatArray:
    """The quotient, or NaN where the denominator is 0."""
    return numerator / np.where(denominator > 0, denominator, np.nan)


def by_sums(
    features: Callable[[Sample], FloatArray], reduce: Callable[[FloatArray], FloatArray]
) -> Callable[[Sample], float]:
    """`point` of a metric that no library provides, computed from its own sums."""
    return lambda sample: float(reduce(features(sample).sum(0)))
