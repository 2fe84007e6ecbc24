"""What one trial said to each row, beside the truth: the one thing that every metric and test reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from germinal.predictors.answers import Answer


@dataclass(frozen=True, slots=True)
class Sample:
    """Targets and predictions, row by row.

    Attributes:
        labels: All labels there are; none where answers are texts.
        targets: The right label of each row, or its reference text.
        predictions: What was answered; None is a failed answer, which is wrong and stays in the denominator.
        probabilities: Label -> probability for each row (None where it failed), or None where the trial gives none.
        clusters: The source of each row, where rows share sources; rows of one source are drawn together.
    """

    labels: tuple[str, ...]
    targets: tuple[str, ...]
    predictions: tuple[str | None, ...]
    probabilities: tuple[Mapping[str, float] | None, ...] | None = None
    clusters: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        columns = (self.predictions, self.probabilities, self.clusters)
        if not self.targets or any(column is not None and len(column) != len(self.targets) for column in columns):
            raise ValueError("a sample needs rows, and as many predictions, probabilities and clusters as targets")
        unknown = ({*self.targets, *self.predictions} - {None}) - set(self.labels)
        if self.labels and unknown:
            raise ValueError(f"not among the labels: {sorted(map(str, unknown))}")

    def __len__(self) -> int:
        return len(self.targets)

    @classmethod
    def from_answers(
        cls,
        targets: Sequence[str],
        answers: Sequence[Answer],
        labels: Sequence[str] = (),
        clusters: Sequence[str] | None = None,
    ) -> Sample:
        """A sample of a predictor's answers: their labels, or their texts where there are no labels to choose from.

        It has probabilities if any answer has.
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
        """Raise ValueError unless both stand on the same rows, as every paired comparison must."""
        if (self.targets, self.clusters, self.labels) != (other.targets, other.clusters, other.labels):
            raise ValueError("the samples do not stand on the same rows")
