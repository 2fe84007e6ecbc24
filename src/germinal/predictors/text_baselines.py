"""Plain baselines whose answers are texts: what is a language model's text worth?

- `lead` says the first sentence of the input, which summaries of news are known to find hard to beat.
- `copy` says the input as it is: of a translation what the two languages share, names above all.
- `nearest` says the target of the most similar training input, by the cosine of TF-IDF of words and pairs of words:
  what a search in the training rows would find.

They are saved as JSON and safetensors, never as a pickle, and load to the same answers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from germinal.predictors.answers import Answer
from germinal.predictors.folder import damaged, write_content
from germinal.predictors.training_rows import check_rows, fit_vectorizer, restored_vectorizer
from germinal.progress import Progress, Reporter, silent
from germinal.storage import atomic_folder
from germinal.text.context_window import FittedPrompt

_TENSORS = "model.safetensors"
_BATCH = 64

# A sentence ends at a mark, with the quotes and brackets that close after it, before a blank and what is no small
# letter; at a mark of a script without blanks; or at an empty line.
_END = re.compile(r"[.!?…]+[\"'”’»)\]]*(?=\s+[^\s\W_a-zß-öø-ÿ]|\s+[\W_]|\s*$)|[。！？]+[」』）”]*|(?=\n\s*\n)")
# What is written with a point inside a sentence: initials and the commonest titles.
_ABBREVIATION = re.compile(r"(?:^|[\s(.])(?:\w|Mr|Mrs|Ms|Dr|Prof|St|No|vs)\.$")


def first_sentence(text: str) -> str:
    """The first sentence of a text, on one line; all of it where no end is found.

    By marks alone, for any language that uses them: an unknown abbreviation before a capital letter ends it too early.
    """
    text = text.strip()
    for end in _END.finditer(text):
        sentence = text[: end.end()]
        if not _ABBREVIATION.search(sentence):
            return " ".join(sentence.split())
    return " ".join(text.split())


class _Untrained:
    """A baseline that learns nothing: it is its kind alone."""

    kind: ClassVar[str]

    @classmethod
    def fit(cls, inputs: Sequence[str], targets: Sequence[str]) -> Self:
        """Nothing is learned; rows are asked for as of every baseline."""
        check_rows(inputs, targets)
        return cls()

    @property
    def parameters(self) -> int:
        """How many numbers were learned: none."""
        return 0

    def read(self, inputs: Sequence[str]) -> list[FittedPrompt]:
        """Nothing: there is no network."""
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
        return [Answer(None, first_sentence(text)) for text in inputs]


class CopyPredictor(_Untrained):
    """The input, without the blanks at its ends."""

    kind: ClassVar[str] = "copy"

    def predict(self, inputs: Sequence[str], reporter: Reporter = silent) -> list[Answer]:
        return [Answer(None, text.strip()) for text in inputs]


class NearestPredictor:
    """The target of the training input that is nearest; of equally near ones the first.

    An input that shares no word with any of them gets no answer.

    Attributes:
        targets: Of the training rows.
        vocabulary: Words and pairs, in the order of the columns.
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
            DataError: there are none, or no word in any input.
        """
        check_rows(inputs, targets)
        vectorizer, rows = fit_vectorizer(inputs)
        return cls(targets, [str(term) for term in vectorizer.get_feature_names_out()], vectorizer.idf_, rows)

    @property
    def parameters(self) -> int:
        """How many numbers are remembered."""
        return int(self.idf.size + self.rows.nnz)

    def read(self, inputs: Sequence[str]) -> list[FittedPrompt]:
        """Nothing: there is no network."""
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
            save_file({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}, temporary / _TENSORS)

    @classmethod
    def load(cls, folder: Path, content: Mapping[str, Any]) -> Self:
        from scipy.sparse import csr_matrix

        targets, vocabulary = content["targets"], content["vocabulary"]
        try:
            tensors = load_file(folder / _TENSORS)
        except (OSError, SafetensorError) as error:
            raise damaged(folder, error) from error
        if tensors["idf"].shape != (len(vocabulary),):
            raise ValueError(f"{tensors['idf'].shape} weights for {len(vocabulary)} terms")
        parts = (tensors["rows.data"], tensors["rows.indices"], tensors["rows.indptr"])
        rows = csr_matrix(parts, shape=(len(targets), len(vocabulary)))
        rows.check_format(full_check=True)  # indices out of range would read memory that is not theirs
        return cls(targets, vocabulary, tensors["idf"], rows)
