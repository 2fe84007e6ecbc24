"""What a metric is: a figure of a sample, and the same as a function of sums over rows.

Intervals and paired tests evaluate a metric some ten thousand times, on rows drawn again or swapped. Every metric here
is a function of sums, so that each has, beside `point`,

- `features`: what each row adds to the sums, [N, F], and
- `reduce`: the metric from sums, [..., F] -> [...], for any number of them at once.

`reduce(features(sample).sum(0))` is `point(sample)`; a test holds that for every metric.

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
"""What the answers of a task are, and which metrics can be taken of them."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric by name.

    Attributes:
        name: As in germinal.toml.
        title: For tables and figures.
        higher_is_better: The direction.
        needs_probabilities: Whether a trial that gives no probabilities has no such figure.
        bounds: Least and greatest value, None where there is no end.
        point: The figure of a sample.
        features: What each row adds to the sums, [N, F].
        reduce: The figure from sums, [..., F] -> [...].
        is_proportion: The figure is a share of rows, so that exact methods for proportions hold.
        answers: Whether it is of labels or of texts.
        reduce_row: The figure of a row from its features where that is not `reduce`.
        library: The package that `point` is of, beside the ones that all metrics stand on.
        settings: What else another tool must be told to give the same figure, with the library's version.
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

    def has_figure(self, sample: Sample) -> bool:
        """Whether this metric can be taken of this sample."""
        fits = (self.answers == "labels") == bool(sample.labels)
        return fits and (sample.probabilities is not None or not self.needs_probabilities)

    def of_rows(self, sample: Sample) -> FloatArray:
        """The figure of each row by itself, [N]: to look at, since only some metrics are the mean of it."""
        return (self.reduce_row or self.reduce)(self.features(sample))


def with_count(scores: FloatArray) -> FloatArray:
    """Features of a mean over rows, [N, 2]: the row's score, and 1."""
    return np.stack([scores, np.ones_like(scores)], axis=-1)


def mean(sums: FloatArray) -> FloatArray:
    """The mean over rows from sums of `with_count`."""
    return divided(sums[..., 0], sums[..., 1])


def divided(numerator: FloatArray, denominator: FloatArray) -> FloatArray:
    """The quotient, NaN where nothing is there to divide by."""
    return numerator / np.where(denominator > 0, denominator, np.nan)


def by_sums(
    features: Callable[[Sample], FloatArray], reduce: Callable[[FloatArray], FloatArray]
) -> Callable[[Sample], float]:
    """`point` of a metric that no library has: its own sums."""
    return lambda sample: float(reduce(features(sample).sum(0)))
