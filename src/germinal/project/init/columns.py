"""Which column of a data file is the input, which the target, which names the source: guesses from names and contents.

A guess with rivals lists them, and `germinal init` asks instead of deciding.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

from germinal.data.normal_forms import tidy
from germinal.data.readers import Table
from germinal.data.values import cell_of
from germinal.evaluation.metric import Answers

_TARGET_NAMES = ("label", "target", "class", "category", "sentiment", "answer", "topic", "intent", "rating", "y")
_INPUT_NAMES = ("text", "input", "review", "sentence", "document", "message", "question", "prompt", "content", "body")
_TEXT_TARGET_NAMES = (
    "summary",
    "headline",
    "title",
    "translation",
    "target",
    "answer",
    "output",
    "response",
    "reply",
    "completion",
)
_LABEL_NAMES = ("label", "class", "category", "sentiment", "topic", "intent", "rating", "y")  # never those of texts
_GROUP_NAMES = ("group", "source", "author", "user", "document_id", "doc_id", "session", "patient", "customer")
MOST_LABELS = 50
_LEAST_ROWS_A_LABEL = 2


@dataclass(frozen=True, slots=True)
class Column:
    """A column and what its values look like: their number, how many differ, how long they are on average."""

    name: str
    rows: int
    distinct: int
    length: float
    counts: Counter[str]

    @property
    def is_label(self) -> bool:
        """Few values, which repeat."""
        return 2 <= self.distinct <= MOST_LABELS and self.rows >= _LEAST_ROWS_A_LABEL * self.distinct

    @property
    def is_text(self) -> bool:
        """Values that differ from row to row and are not numbers."""
        return not self.is_label and self.distinct > 1 and not all(map(_is_number, self.counts))

    @property
    def repeats(self) -> bool:
        """Neither the same in every row nor different in every row."""
        return 1 < self.distinct < self.rows


@dataclass(frozen=True, slots=True)
class Guess:
    """The most likely column (None when no column is possible) and its rivals."""

    name: str | None
    others: tuple[str, ...] = ()

    @property
    def sure(self) -> bool:
        """Whether there is a column, and no other that would do as well."""
        return self.name is not None and not self.others


@dataclass(frozen=True, slots=True)
class Guesses:
    """Which columns hold the inputs and the right answers. A column that somebody named has no rivals."""

    input: Guess
    target: Guess


def describe(table: Table) -> list[Column]:
    """Every column and what its values look like, without those that are missing."""
    columns = []
    for name in table.columns:
        values = [value for record in table.records if (value := _shown(record.values.get(name)))]
        counts = Counter(values)
        length = fmean(len(value) for value in values) if values else 0.0
        columns.append(Column(name, len(values), len(counts), length, counts))
    return columns


def guess_columns(
    columns: Sequence[Column], answers: Answers, input: str | None = None, target: str | None = None
) -> Guesses:
    """Guess the columns that nobody named.

    Args:
        answers: Whether the target holds labels or texts, see `answers_in`.
        input: The input column, if it is named.
        target: The target column, if it is named.
    """
    guess = guess_target if answers == "labels" else guess_text
    found = Guess(target) if target else guess(columns, input)
    return Guesses(Guess(input) if input else guess_input(columns, found.name), found)


def guess_target(columns: Sequence[Column], given_input: str | None = None) -> Guess:
    """The column of labels: one with the name of a target, else the one with the fewest values."""
    usable = [column for column in columns if column.is_label and column.name != given_input]
    named = _named(usable, _TARGET_NAMES)
    if named:
        return Guess(named[0].name)
    usable.sort(key=lambda column: column.distinct)
    return Guess(usable[0].name, tuple(column.name for column in usable[1:])) if usable else Guess(None)


def guess_text(columns: Sequence[Column], given_input: str | None = None) -> Guess:
    """The column of right texts: one with the name of such a column, else the longest but for the input.

    Where no name says which column is the input, it is taken to be the longest of all.
    """
    texts = sorted((column for column in columns if column.is_text), key=lambda column: -column.length)
    inputs = [column for column in texts if column.name == given_input] or _named(texts, _INPUT_NAMES)
    others = [column for column in texts if column not in inputs and column not in _named(texts, _LABEL_NAMES)]
    named = [column for column in _named(texts, _TEXT_TARGET_NAMES) if column.name != given_input]
    if named:
        return Guess(named[0].name)
    usable = [column.name for column in (others if inputs else others[1:])]
    return Guess(usable[0], tuple(usable[1:])) if usable else Guess(None)


def answers_in(columns: Sequence[Column], input: str | None, target: str | None) -> Answers:
    """Whether the right answers are labels or texts.

    The column that somebody named as the target decides; else a column with the name of labels, then one of texts.
    """
    if target is not None:
        return "labels" if next(column.is_label for column in columns if column.name == target) else "text"
    usable = [column for column in columns if column.name != input]
    labels = [column for column in usable if column.is_label]
    texts = [column for column in usable if column.is_text]
    if _named(labels, _TARGET_NAMES) or (labels and not _named(texts, _TEXT_TARGET_NAMES)):
        return "labels"
    return "text" if guess_text(columns, input).name is not None else "labels"


def guess_input(columns: Sequence[Column], target: str | None) -> Guess:
    """The column of inputs: one with the name of an input, else the one with the longest values."""
    usable = [column for column in columns if column.name != target and column.distinct > 1 and column.length > 0]
    named = [column for column in _named(usable, _INPUT_NAMES) if not column.is_label]
    if named:
        return Guess(named[0].name)
    usable.sort(key=lambda column: -column.length)
    if not usable:
        return Guess(None)
    rivals = [column.name for column in usable[1:] if column.length > usable[0].length / 2]
    return Guess(usable[0].name, tuple(rivals))


def guess_group(columns: Sequence[Column], taken: Iterable[str]) -> Guess:
    """The column that names sources: only one with such a name, whose values repeat."""
    usable = [column for column in columns if column.name not in set(taken) and column.repeats]
    named = _named(usable, _GROUP_NAMES)
    return Guess(named[0].name) if named else Guess(None)


def _named(columns: Sequence[Column], names: Sequence[str]) -> list[Column]:
    """The columns with one of these names, whole ones before parts between underscores, in the order of the names."""
    found = []
    for exact in (True, False):
        for name in names:
            for column in columns:
                parts = [column.name.lower()] if exact else column.name.lower().replace("-", "_").split("_")
                if name in parts and column not in found:
                    found.append(column)
    return found


def _is_number(value: str) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return True


def _shown(value: object) -> str:
    return tidy(cell_of(value))
