"""What the baselines share: checks of the training rows, and TF-IDF of their words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from germinal.errors import DataError

if TYPE_CHECKING:
    from sklearn.feature_extraction.text import TfidfVectorizer

# Single characters count as words, as scripts without spaces need.
TFIDF: Mapping[str, Any] = {"ngram_range": (1, 2), "sublinear_tf": True, "token_pattern": r"(?u)\b\w+\b"}


def check_rows(inputs: Sequence[str], targets: Sequence[str]) -> None:
    """Raise a DataError if there are no rows to learn from."""
    if not targets:
        raise DataError("there are no training rows to learn from.", where="train")
    if len(inputs) != len(targets):
        raise ValueError("as many inputs as targets are needed")


def fit_vectorizer(inputs: Sequence[str]) -> tuple[TfidfVectorizer, Any]:
    """A vectorizer of words and pairs of words, fitted to the inputs, and their features [N, F], sparse.

    Raises:
        DataError: no input has a word.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(**TFIDF)
    try:
        return vectorizer, vectorizer.fit_transform(inputs)
    except ValueError as error:
        raise DataError("there are no words in the training inputs.", hint="Is it the right column?") from error


def check_vocabulary(vocabulary: Sequence[str]) -> None:
    """Raise a ValueError if a term of a saved baseline stands twice, so that it would have two columns."""
    if len(set(vocabulary)) < len(vocabulary):
        raise ValueError("the vocabulary names a term twice")


def restored_vectorizer(vocabulary: Sequence[str], idf: np.ndarray[Any, np.dtype[np.float64]]) -> TfidfVectorizer:
    """The vectorizer of a saved baseline, from its terms, in the order of the columns, and their weights [F]."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(vocabulary={term: column for column, term in enumerate(vocabulary)}, **TFIDF)
    vectorizer.idf_ = idf
    return vectorizer
