"""Readers of data files: csv, tsv, jsonl and parquet all give a `Table`; errors name the file and the line.

Text files are UTF-8, with or without a byte-order mark. Values keep the type the file gives them (text in csv, JSON's
types in jsonl, Arrow's in parquet); `germinal.data.dataset` interprets them.
"""

from __future__ import annotations

import csv
import io
from codecs import BOM_UTF8
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from germinal.errors import DataError, UnsupportedError, nearest
from germinal.files import parse_json, read_bytes

_LONGEST_FIELD = 1 << 30
_MOST_BYTES = 1 << 34


@dataclass(frozen=True, slots=True)
class Record:
    """One row of a file, and its location ("reviews.csv:12", the first line of the row)."""

    values: Mapping[str, Any]
    where: str


@dataclass(frozen=True, slots=True)
class Table:
    """The contents of a data file.

    Attributes:
        marked: Whether the file starts with a byte-order mark, by which Excel knows that it is UTF-8.
    """

    path: Path
    columns: tuple[str, ...]
    records: tuple[Record, ...]
    marked: bool = False

    def require_column(self, name: str) -> None:
        """Raise a DataError that suggests the nearest column, unless the table has this one."""
        if name not in self.columns:
            raise DataError(
                f"there is no column '{name}'.", where=str(self.path), hint=nearest(name, list(self.columns))
            )


def read_table(path: str | Path) -> Table:
    """Read a csv, tsv, jsonl (ndjson) or parquet file.

    Raises:
        DataError: the file is missing, empty, not UTF-8 or malformed; the error names the line.
        UnsupportedError: the path is a folder, or the file has another format.
    """
    path = Path(path)
    reader = _READERS.get(path.suffix.lower())
    if path.is_dir():
        raise UnsupportedError(
            "folders cannot be read as data.", where=str(path), hint=f"Name one file of these formats: {_known()}."
        )
    if not path.is_file():
        raise DataError("no such data file.", where=str(path), hint=_nearest_file(path))
    if reader is None:
        raise UnsupportedError(
            f"'{path.suffix or path.name}' is not a supported data format.",
            where=str(path),
            hint=f"Supported: {_known()}.",
        )
    table = reader(path)
    if not table.records:
        raise DataError("the data file has no rows.", where=str(path), hint="Give it at least one row.")
    return table


def read_lines(path: str | Path, column: str) -> Table:
    """Read a .txt file of one text on each line as a table with one column; lines without text do not count.

    Raises:
        DataError: the file is missing, not UTF-8, or has no text.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError("no such data file.", where=str(path))
    lines = enumerate(_read_text(path).split("\n"), start=1)
    records = tuple(Record({column: line.rstrip("\r")}, f"{path}:{number}") for number, line in lines if line.strip())
    if not records:
        raise DataError("the data file has no rows.", where=str(path), hint="Give it at least one row.")
    return Table(path, (column,), records)


def _known() -> str:
    return ", ".join(sorted(_READERS))


def _nearest_file(path: Path) -> str | None:
    """A hint that names the nearest data file of the same folder, if there is one."""
    if not path.parent.is_dir():
        return None
    names = [file.name for file in path.parent.iterdir() if file.suffix.lower() in _READERS]
    return nearest(path.name, names) if names else None


def _read_text(path: Path) -> str:
    content = read_bytes(path, error=DataError, most=_MOST_BYTES)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        what = f"byte 0x{content[error.start]:02x} is not UTF-8."
        raise DataError(what, where=f"{path}:{line}", hint="Save the file in UTF-8 and run again.") from error


def _read_delimited(path: Path, delimiter: str) -> Table:
    lines = _delimited_rows(path, delimiter)
    _, header = next(lines, (1, []))
    columns = [name.strip() for name in header]
    if not any(columns):
        raise DataError("the data file is empty.", where=str(path), hint="Its first line must name the columns.")
    _check_columns(columns, f"{path}:1")
    records = []
    for line, row in lines:
        where = f"{path}:{line}"
        if len(row) != len(columns):
            hint = "Enclose fields that contain a delimiter, a quote or a line break in double quotes."
            raise DataError(f"{len(row)} fields, but the header has {len(columns)}.", where=where, hint=hint)
        records.append(Record(dict(zip(columns, row, strict=True)), where))
    with path.open("rb") as file:
        marked = file.read(len(BOM_UTF8)) == BOM_UTF8
    return Table(path, tuple(columns), tuple(records), marked)


def _delimited_rows(path: Path, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Rows that are not blank, each with the number of its first line."""
    previous_limit = csv.field_size_limit(_LONGEST_FIELD)
    try:
        reader = csv.reader(io.StringIO(_read_text(path), newline=""), delimiter=delimiter, strict=True)
        first_line = 1
        for row in reader:
            if row:
                yield first_line, row
            first_line = reader.line_num + 1
    except csv.Error as error:
        raise DataError(
            f"malformed: {error}.", where=f"{path}:{first_line}", hint="Check the quotes of this row."
        ) from error
    finally:
        csv.field_size_limit(previous_limit)


def _check_columns(columns: list[str], where: str) -> None:
    if "" in columns:
        raise DataError(f"column {columns.index('') + 1} has no name.", where=where, hint="Name every column.")
    repeated = sorted({name for name in columns if columns.count(name) > 1})
    if repeated:
        raise DataError(
            f"column '{repeated[0]}' is named more than once.", where=where, hint="Give each column its own name."
        )


def _read_jsonl(path: Path) -> Table:
    columns: dict[str, None] = {}
    records = []
    for number, line in enumerate(_read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        values = parse_json(line, where=where, error=DataError)
        if not isinstance(values, dict):
            raise DataError("a line must be a JSON object.", where=where, hint='Write {"column": value, ...}.')
        columns.update(dict.fromkeys(values))
        records.append(Record(values, where))
    return Table(path, tuple(columns), tuple(records))


def _read_parquet(path: Path) -> Table:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        with path.open("rb") as file:
            arrow = parquet.read_table(file)
        rows = arrow.to_pylist()
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:  # of dates, times and text beyond Python's
        raise DataError(f"not a readable parquet file: {error}", where=str(path)) from error
    columns = [str(name) for name in arrow.column_names]
    _check_columns(columns, str(path))
    records = (Record(values, f"{path}:row {number}") for number, values in enumerate(rows, start=1))
    return Table(path, tuple(columns), tuple(records))


_READERS: dict[str, Callable[[Path], Table]] = {
    ".csv": lambda path: _read_delimited(path, ","),
    ".tsv": lambda path: _read_delimited(path, "\t"),
    ".jsonl": _read_jsonl,
    ".ndjson": _read_jsonl,
    ".parquet": _read_parquet,
}
