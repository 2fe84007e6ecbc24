"""Plain baselines whose answers are texts, with which the texts of a language model are compared:

- `lead` answers the first sentence of the input, which is known to be hard to beat when news are summarized.
- `copy` answers the input itself. In a translation this scores what the two languages share, names above all.
- `nearest` answers the target of the most similar training input, by the cosine of TF-IDF of words and pairs of words.
  It is what a search in the training rows would find.

They are saved as JSON and safetensors, never as a pickle; loaded again, they give the same answers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from germinal.data.normal_forms import tidy
from germinal.predictors.answers import Answer
from germinal.predictors.folder import Shape, read_tensors, typed, write_content, write_tensors
from germinal.predictors.training_rows import check_rows, check_vocabulary, fit_vectorizer, restored_vectorizer
from germinal.progress import Progress, Reporter, silent
from germinal.storage import atomic_folder
from germinal.text.context_window import FittedPrompt

_BATCH = 64

# A sentence ends at a mark, with the quotes and brackets that close after it, if white space follows and then anything
# but a lower-case letter; at a mark of a script that writes no spaces; or at an empty line.
_END = re.compile(r"[.!?…]+[\"'”’»)\]]*(?=\s+[^\s\W_a-zß-öø-ÿ]|\s+[\W_]|\s*$)|[。！？]+[」』）”]*|(?=\n\s*\n)")
# Initials and common titles, whose full stop does not end a sentence.
_ABBREVIATION = re.compile(r"(?:^|[\s(.])(?:\w|Mr|Mrs|Ms|Dr|Prof|St|No|vs)\.$")


def first_sentence(text: str) -> str:
    """The first sentence of a text, on one line; the whole text if no end is found.

    Only punctuation is looked at, so that any language will do that uses it. An unknown abbreviation before a capital
    letter ends the sentence too early.
    """
    text = text.strip()
    for end in _END.finditer(text):
        sentence = text[: end.end()]
        if not _ABBREVIATION.search(sentence):
            return " ".join(sentence.split())
    return " ".join(text.split())


class _Untrained:
    """A baseline that learns nothing: its folder holds its kind alone."""

    kind: ClassVar[str]

    @classmethod
    def fit(cls, inputs: Sequence[str], targets: Sequence[str]) -> Self:
        """Learn nothing. The rows are checked as for every baseline.

        Raises:
            DataError: there are no rows.
        """
        check_rows(inputs, targets)
        return cls()

    @property
    def parameters(self) -> int:
        """How many numbers were learned: 0."""
        return 0

    def read(self, inputs: Sequence[str]) -> list[FittedPrompt]:
        """Empty: there is no network."""
        return []

    def save(self, folder: Path) -> None:
        with atomic_folder(Path(folder)) as temporary:
            write_content(temporary, self.kind, {})

    @classmethod
    def load(cls, folder: Path, content: Mapping[str, Any]) -> Self:
        return cls()


class LeadPredictor(_Untrained):
    """The first sentence of the input."""

    kind: ClassVar[str] = "lead"

    def predict(self, inputs: Sequence[str], reporter: Reporter = silent) -> list[Answer]:
        return [Answer(None, tidy(first_sentence(text))) for text in inputs]


class CopyPredictor(_Untrained):
    """The input, without white space at its ends."""

    kind: ClassVar[str] = "copy"

    def predict(self, inputs: Sequence[str], reporter: Reporter = silent) -> list[Answer]:
        return [Answer(None, tidy(text)) for text in inputs]


class _Nearest(Shape):
    targets: list[str]
    vocabulary: list[str]


class NearestPredictor:
    """The target of the nearest training input, the first of several that are equally near.

    An input that shares no word with any training input gets no answer.

    Attributes:
        targets: Those of the training rows.
        vocabulary: Words and pairs of words, in the order of the columns.
        idf: Inverse document frequency of each, [F].
        rows: The training inputs as unit vectors, [N, F], sparse (CSR).
    """

    kind: ClassVar[str] = "nearest"

    def __init__(
        self, targets: Sequence[str], vocabulary: Sequence[str], idf: np.ndarray[Any, np.dtype[np.float64]], rows: Any
    ) -> None:
        self.targets, self.vocabulary = tuple(targets), tuple(vocabulary)
        self.idf, self.rows = idf, rows
        self._vectorizer = restored_vectorizer(self.vocabulary, idf)

    @classmethod
    def fit(cls, inputs: Sequence[str], targets: Sequence[str]) -> Self:
        """Remember the rows.

        Raises:
            DataError: there are none, or no input has a word.
        """
        check_rows(inputs, targets)
        vectorizer, rows = fit_vectorizer(inputs)
        return cls(targets, [str(term) for term in vectorizer.get_feature_names_out()], vectorizer.idf_, rows)

    @property
    def parameters(self) -> int:
        """How many numbers are remembered."""
        return int(self.idf.size + self.rows.nnz)

    def read(self, inputs: Sequence[str]) -> list[FittedPrompt]:
        """Empty: there is no network."""
        return []

    def predict(self, inputs: Sequence[str], reporter: Reporter = silent) -> list[Answer]:
        answers: list[Answer] = []
        columns = self.rows.T.tocsr()
        for start in range(0, len(inputs), _BATCH):
            batch = list(inputs[start : start + _BATCH])
            cosines = (self._vectorizer.transform(batch) @ columns).toarray()  # [B, N]
            for row in cosines:
                best = int(row.argmax())
                if row[best] > 0:
                    answers.append(Answer(None, self.targets[best]))
                else:
                    answers.append(Answer(None, "", error="no word of the input is in the training rows"))
            reporter(Progress("answer", len(answers), len(inputs), "examples"))
        return answers

    def save(self, folder: Path) -> None:
        rows = {"rows.data": self.rows.data, "rows.indices": self.rows.indices, "rows.indptr": self.rows.indptr}
        tensors = {"idf": self.idf, **rows}
        with atomic_folder(Path(folder)) as temporary:
            write_content(temporary, self.kind, {"targets": self.targets, "vocabulary": self.vocabulary})
            write_tensors(temporary, tensors)

    @classmethod
    def load(cls, folder: Path, content: Mapping[str, Any]) -> Self:
        from scipy.sparse import csr_matrix

        saved = typed(content, _Nearest, folder)
        targets, vocabulary = saved.targets, saved.vocabulary
        check_vocabulary(vocabulary)
        tensors = read_tensors(folder)
        if tensors["idf"].shape != (len(vocabulary),):
            raise ValueError(f"{tensors['idf'].shape} weights for {len(vocabulary)} terms")
        parts = (tensors["rows.data"], tensors["rows.indices"], tensors["rows.indptr"])
        rows = csr_matrix(parts, shape=(len(targets), len(vocabulary)))
        rows.check_format(full_check=True)  # indices out of range would read other memory
        return cls(targets, vocabulary, tensors["idf"], rows)
