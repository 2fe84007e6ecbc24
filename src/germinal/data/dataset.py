"""Checked rows: complete, each with an id derived from its content, and no input twice.

Two rows with the same input could land in two splits, or count twice in one, so they never pass silently:

- the same input with *different* labels is always an error: no model can be right on both, and only the owner of the
  data knows which label is correct;
- the same input with the same target, or with different target texts, each of which may be right (`closed=False`), is
  an error by default (`duplicates="error"`). With `duplicates="drop"` one of the rows is kept and the others are listed
  in `Dataset.dropped`.

Inputs are compared after stripping outer whitespace, NFC normalization and unifying line breaks; the rows keep them
unchanged. Ids depend on content alone, not on the file's name, its format, or the order of its rows.
"""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from germinal.data.normal_forms import tidy
from germinal.data.readers import Record, Table, read_table
from germinal.data.units import units_of
from germinal.data.values import text_of
from germinal.errors import DataError
from germinal.storage import digest

DuplicatePolicy = Literal["error", "drop"]

_SHOWN = 5  # examples listed in an error


@dataclass(frozen=True, slots=True)
class Row:
    """One example of the use case.

    Attributes:
        id: Hash of input, target and group.
        key: Hash of the input alone; unlike the id, it stays the same when a label is corrected.
        unit: Hash of what a split keeps together, see `germinal.data.units`.
        input: The text, exactly as in the file.
        target: The right answer, tidied (`germinal.data.normal_forms`).
        group: The source that rows share, if the project names such a column.
        position: Index of the row in the file, from 0.
    """

    id: str
    key: str
    unit: str
    input: str
    target: str
    group: str | None
    position: int


@dataclass(frozen=True, slots=True)
class Duplicate:
    """A row that was dropped, and the one that was kept in its place."""

    dropped: str
    kept: str


@dataclass(frozen=True, slots=True)
class Dataset:
    """The rows of a data file, in the file's order, and the duplicates that were dropped."""

    rows: tuple[Row, ...]
    dropped: tuple[Duplicate, ...] = field(default=())

    @property
    def digest(self) -> str:
        """Hash of the content, independent of the order of the rows."""
        return digest(sorted(row.id for row in self.rows))


def read_dataset(
    path: str | Path,
    *,
    input: str,
    target: str,
    group: str | None = None,
    duplicates: DuplicatePolicy = "error",
    closed: bool = True,
) -> Dataset:
    """Read a data file and check it; see `make_dataset`."""
    return make_dataset(read_table(path), input=input, target=target, group=group, duplicates=duplicates, closed=closed)


def make_dataset(
    table: Table,
    *,
    input: str,
    target: str,
    group: str | None = None,
    duplicates: DuplicatePolicy = "error",
    closed: bool = True,
) -> Dataset:
    """Make rows of the named columns and check them.

    Args:
        closed: Whether targets are labels, exactly one of which is right; otherwise they are texts.

    Raises:
        DataError: a column is missing, a value is missing, the same input has two labels, or, unless `duplicates` is
            "drop", an input occurs twice.
    """
    inputs, targets = inputs_of(table, input), targets_of(table, target)
    groups = [name.strip() for name in _texts(table, group)] if group else [None] * len(inputs)
    rows = [_row(*content, position) for position, content in enumerate(zip(inputs, targets, groups, strict=True))]
    if closed or duplicates == "error":
        _refuse_conflicts(rows, table, closed)
    kept, dropped = _without_duplicates(rows, table.records)
    if dropped and duplicates == "error":
        lines = _listed(f"{pair.dropped} repeats {pair.kept}" for pair in dropped)
        what = f"{len(dropped)} of {len(rows)} rows repeat another row: {lines}."
        raise DataError(
            what, where=str(table.path), hint='Remove them, or set duplicates = "drop" to keep one of each.'
        )
    units = units_of([row.input for row in kept], [row.group for row in kept])
    return Dataset(tuple(replace(row, unit=unit) for row, unit in zip(kept, units, strict=True)), tuple(dropped))


def inputs_of(table: Table, column: str) -> list[str]:
    """The texts of one column, in the file's order, duplicates included: what runs, tuning and predictions all read.

    Raises:
        DataError: there is no such column, or a row has neither text nor a number in it.
    """
    return _texts(table, column)


def targets_of(table: Table, column: str) -> list[str]:
    """The right answers of one column, tidied; otherwise as `inputs_of`."""
    return [tidy(text) for text in _texts(table, column)]


def read_pairs(path: str | Path, *, input: str, target: str) -> list[tuple[str, str]]:
    """Input and right answer of every row of a data file, in the file's order, duplicates and all.

    Raises:
        DataError: the file cannot be read, lacks a column, or has a row without one of the two.
        UnsupportedError: the file is of another kind.
    """
    table = read_table(path)
    return list(zip(inputs_of(table, input), targets_of(table, target), strict=True))


def _row(input: str, target: str, group: str | None, position: int) -> Row:
    same = _same(input)
    return Row(
        id=digest((same, target, group)),
        key=digest(same),
        unit="",  # known once duplicates are gone
        input=input,
        target=target,
        group=group,
        position=position,
    )


def _same(text: str) -> str:
    return unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n")).strip()


def _texts(table: Table, column: str) -> list[str]:
    """One column as text; a value that is missing, or that nobody could see, is an error."""
    table.require_column(column)
    texts = []
    missing: list[Record] = []
    for record in table.records:
        value = record.values.get(column)
        text = text_of(value)
        if text is None:
            what = f"column '{column}' holds a {type(value).__name__}, not text or a number."
            raise DataError(what, where=record.where, hint="Write it as text.")
        if not tidy(text):
            missing.append(record)
        texts.append(text)
    if missing:
        where = _listed(record.where for record in missing)
        what = f"{len(missing)} of {len(texts)} rows have no value in column '{column}': {where}."
        raise DataError(what, where=str(table.path), hint="Fill them in or remove the rows.")
    return texts


def _refuse_conflicts(rows: Sequence[Row], table: Table, closed: bool) -> None:
    by_key: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_key[row.key].append(row)
    conflicts = [same for same in by_key.values() if len({row.target for row in same}) > 1]
    if conflicts:
        described = _listed(_conflict(same, table.records) for same in conflicts)
        what = f"{len(conflicts)} inputs have different targets in different rows: {described}."
        hint = "Decide which target is right and remove the other rows"
        hint += "." if closed else ', or set duplicates = "drop" to keep one of each.'
        raise DataError(what, where=str(table.path), hint=hint)


def _conflict(rows: Sequence[Row], records: Sequence[Record]) -> str:
    text = " ".join(rows[0].input.split())
    shown = text if len(text) <= 60 else text[:57] + "..."
    return f"'{shown}' is " + " and ".join(f"'{row.target}' at {records[row.position].where}" for row in rows[:_SHOWN])


def _without_duplicates(rows: Sequence[Row], records: Sequence[Record]) -> tuple[list[Row], list[Duplicate]]:
    """Keep one row of each input: the first by group and target, so that the file's order does not matter."""
    kept: dict[str, Row] = {}
    for row in sorted(rows, key=lambda row: (row.group or "", row.target, row.position)):
        kept.setdefault(row.key, row)
    stays = {row.position for row in kept.values()}
    dropped = [
        Duplicate(dropped=records[row.position].where, kept=records[kept[row.key].position].where)
        for row in rows
        if row.position not in stays
    ]
    return [row for row in rows if row.position in stays], dropped


def _listed(items: Iterable[str]) -> str:
    """The first few items, and the number of the others."""
    listed = list(items)
    more = f", and {len(listed) - _SHOWN} more" if len(listed) > _SHOWN else ""
    return "; ".join(listed[:_SHOWN]) + more
