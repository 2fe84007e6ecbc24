"""Plain baselines, which tell whether a language model is needed at all. Those for labels:

- `majority` always answers the most frequent label of the training split. Its probabilities are the labels' shares.
- `tfidf` is scikit-learn's logistic regression on TF-IDF of words and pairs of words. It is meant to be hard to beat.

BASELINES also holds those for texts. A fitted baseline is saved as JSON and safetensors, never as a pickle; loaded
again, it gives the same probabilities bit for bit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

import numpy as np
from pydantic import Field

from germinal.errors import DataError
from germinal.predictors.answers import Answer
from germinal.predictors.folder import Shape, read_tensors, typed, write_content, write_tensors
from germinal.predictors.text_baselines import CopyPredictor, LeadPredictor, NearestPredictor
from germinal.predictors.training_rows import check_rows, check_vocabulary, fit_vectorizer, restored_vectorizer
from germinal.progress import Progress, Reporter, silent
from germinal.storage import atomic_folder
from germinal.text.context_window import FittedPrompt

_BATCH = 1024


class _Majority(Shape):
    shares: Annotated[dict[str, float], Field(min_length=1)]


class _Tfidf(Shape):
    labels: Annotated[list[str], Field(min_length=2)]
    vocabulary: list[str]


class MajorityPredictor:
    """Always the most frequent label.

    Attributes:
        shares: Label -> its share of the training rows, from 0 to 1, with the labels sorted.
    """

    kind: ClassVar[str] = "majority"

    def __init__(self, shares: Mapping[str, float]) -> None:
        self.shares = dict(shares)

    @classmethod
    def fit(cls, inputs: Sequence[str], targets: Sequence[str]) -> Self:
        """Count the labels; the inputs do not matter.

        Raises:
            DataError: there are no rows.
        """
        check_rows(inputs, targets)
        counts = Counter(targets)
        return cls({label: counts[label] / len(targets) for label in sorted(counts)})

    @property
    def parameters(self) -> int:
        """How many numbers were learned."""
        return len(self.shares)

    def read(self, inputs: Sequence[str]) -> list[FittedPrompt]:
        """Empty: there is no network."""
        return []

    def predict(self, inputs: Sequence[str], reporter: Reporter = silent) -> list[Answer]:
        label = max(self.shares, key=lambda name: self.shares[name])  # the first of equals
        return [Answer(label, label, self.shares) for _ in inputs]

    def save(self, folder: Path) -> None:
        with atomic_folder(Path(folder)) as temporary:
            write_content(temporary, self.kind, {"shares": self.shares})

    @classmethod
    def load(cls, folder: Path, content: Mapping[str, Any]) -> Self:
        return cls(typed(content, _Majority, folder).shares)


class TfidfPredictor:
    """Logistic regression on TF-IDF of words and word pairs.

    Attributes:
        labels: In the order of the probabilities.
        vocabulary: Words and pairs, in the order of the columns.
        idf: Inverse document frequency of each, [F].
        coefficients: [1, F] for two labels (of the second), else [L, F].
        intercepts: [1] or [L].
    """

    kind: ClassVar[str] = "tfidf"
    # With scikit-learn's default of 1, short texts are under-fitted, since their rows are unit vectors.
    strength: ClassVar[float] = 10.0

    def __init__(
        self,
        labels: Sequence[str],
        vocabulary: Sequence[str],
        idf: np.ndarray[Any, np.dtype[np.float64]],
        coefficients: np.ndarray[Any, np.dtype[np.float64]],
        intercepts: np.ndarray[Any, np.dtype[np.float64]],
    ) -> None:
        from sklearn.linear_model import LogisticRegression

        self.labels, self.vocabulary = tuple(labels), tuple(vocabulary)
        self.idf, self.coefficients, self.intercepts = idf, coefficients, intercepts
        self._vectorizer = restored_vectorizer(self.vocabulary, idf)
        self._regression = LogisticRegression()
        self._regression.classes_ = np.array(self.labels, dtype=object)
        self._regression.coef_, self._regression.intercept_ = coefficients, intercepts

    @classmethod
    def fit(cls, inputs: Sequence[str], targets: Sequence[str]) -> Self:
        """Learn from labelled rows.

        Raises:
            DataError: there are no rows, there is only one label, or no input has a word.
        """
        from sklearn.linear_model import LogisticRegression

        check_rows(inputs, targets)
        if len(set(targets)) < 2:
            raise DataError(f"all training rows have the label '{targets[0]}'.", hint="At least two labels are needed.")
        vectorizer, features = fit_vectorizer(inputs)
        regression = LogisticRegression(C=cls.strength, max_iter=1000).fit(features, list(targets))
        vocabulary = [str(term) for term in vectorizer.get_feature_names_out()]
        labels = [str(label) for label in regression.classes_]
        return cls(labels, vocabulary, vectorizer.idf_, regression.coef_, regression.intercept_)

    @property
    def parameters(self) -> int:
        """How many numbers were learned."""
        return int(self.idf.size + self.coefficients.size + self.intercepts.size)

    def read(self, inputs: Sequence[str]) -> list[FittedPrompt]:
        """Empty: there is no network."""
        return []

    def predict(self, inputs: Sequence[str], reporter: Reporter = silent) -> list[Answer]:
        answers: list[Answer] = []
        for start in range(0, len(inputs), _BATCH):
            batch = list(inputs[start : start + _BATCH])
            for row in self._regression.predict_proba(self._vectorizer.transform(batch)):
                probabilities = {label: float(value) for label, value in zip(self.labels, row, strict=True)}
                label = max(probabilities, key=lambda name: probabilities[name])
                answers.append(Answer(label, label, probabilities))
            reporter(Progress("answer", len(answers), len(inputs), "examples"))
        return answers

    def save(self, folder: Path) -> None:
        tensors = {"idf": self.idf, "coefficients": self.coefficients, "intercepts": self.intercepts}
        with atomic_folder(Path(folder)) as temporary:
            write_content(temporary, self.kind, {"labels": self.labels, "vocabulary": self.vocabulary})
            write_tensors(temporary, tensors)

    @classmethod
    def load(cls, folder: Path, content: Mapping[str, Any]) -> Self:
        tensors = read_tensors(folder)
        loaded = (tensors[name] for name in ("idf", "coefficients", "intercepts"))
        saved = typed(content, _Tfidf, folder)
        check_vocabulary(saved.vocabulary)
        predictor = cls(saved.labels, saved.vocabulary, *loaded)
        rows = 1 if len(predictor.labels) == 2 else len(predictor.labels)
        shapes = [tensors[name].shape for name in ("idf", "coefficients", "intercepts")]
        width = len(predictor.vocabulary)
        if shapes != [(width,), (rows, width), (rows,)]:
            raise ValueError(f"shapes {shapes} for {width} terms and {len(predictor.labels)} labels")
        return predictor


BASELINES: dict[str, type[MajorityPredictor | TfidfPredictor | LeadPredictor | CopyPredictor | NearestPredictor]] = {
    predictor.kind: predictor
    for predictor in (MajorityPredictor, TfidfPredictor, LeadPredictor, CopyPredictor, NearestPredictor)
}
