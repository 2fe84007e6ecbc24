"""One trial's answers beside the targets: the input of every metric and test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from germinal.predictors.answers import Answer


@dataclass(frozen=True, slots=True)
class Sample:
    """Targets and predictions, row by row.

    Attributes:
        labels: All labels; empty if answers are texts.
        targets: The right label of each row, or its reference text.
        predictions: The answer to each row. None is a failed answer: it counts as wrong and stays in the denominator.
        probabilities: Label -> probability for each row (None for a failed answer), or None if the trial gives none.
        clusters: The source of each row, if rows share sources; rows of one source are resampled together.
    """

    labels: tuple[str, ...]
    targets: tuple[str, ...]
    predictions: tuple[str | None, ...]
    probabilities: tuple[Mapping[str, float] | None, ...] | None = None
    clusters: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        columns = (self.predictions, self.probabilities, self.clusters)
        if not self.targets or any(column is not None and len(column) != len(self.targets) for column in columns):
            raise ValueError("a sample needs at least one row, and one prediction, probability and cluster for each")
        unknown = ({*self.targets, *self.predictions} - {None}) - set(self.labels)
        if self.labels and unknown:
            raise ValueError(f"not among the labels: {sorted(map(str, unknown))}")

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def units(self) -> int:
        """How many independent units there are: sources, or rows where none is shared."""
        return len(self) if self.clusters is None else len(set(self.clusters))

    @classmethod
    def from_answers(
        cls,
        targets: Sequence[str],
        answers: Sequence[Answer],
        labels: Sequence[str] = (),
        clusters: Sequence[str] | None = None,
    ) -> Sample:
        """Make a sample of a predictor's answers: of their labels or, if `labels` is empty, of their texts.

        The sample has probabilities if any answer has.
        """
        if labels:
            predictions = tuple(answer.label for answer in answers)
        else:
            predictions = tuple(None if answer.error is not None else answer.text for answer in answers)
        probabilities = tuple(answer.probabilities for answer in answers)
        return cls(
            labels=tuple(labels),
            targets=tuple(targets),
            predictions=predictions,
            probabilities=probabilities if any(row is not None for row in probabilities) else None,
            clusters=None if clusters is None else tuple(clusters),
        )

    def require_same_rows(self, other: Sample) -> None:
        """Raise ValueError unless both samples have the same rows, as a paired comparison requires."""
        if (self.targets, self.clusters, self.labels) != (other.targets, other.clusters, other.labels):
            raise ValueError("the samples are not of the same rows")
