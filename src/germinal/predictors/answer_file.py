"""Files of new inputs and of the answers to them: what `germinal predict` reads and writes.

A file of answers keeps every column of the inputs, and adds `predicted`, the probabilities, and `error`, which says why
an answer is missing. Missing values and NaN are empty cells of a csv and null in JSON.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from germinal.data.dataset import inputs_of
from germinal.data.readers import Record, Table, read_lines, read_table
from germinal.data.values import cell_of, json_of
from germinal.errors import DataError, UnsupportedError
from germinal.predictors.answers import Answer
from germinal.storage import write_text

PREDICTED, ERROR = "predicted", "error"


def read_inputs(path: Path, column: str) -> tuple[Table, list[str]]:
    """A table of new inputs, and the texts in its input column.

    A .txt file has one input on each line and no column names; blank lines do not count.

    Raises:
        DataError: the file is missing, empty or malformed, lacks the column, or has a row without a text or a number.
        UnsupportedError: the file is of another kind.
    """
    table = read_lines(path, column) if path.suffix.lower() == ".txt" else read_table(path)
    return table, inputs_of(table, column)


def render_answers(table: Table, answers: Sequence[Answer], suffix: str) -> str:
    """The answers beside their inputs, as the text of a .csv or .jsonl file.

    Raises:
        UnsupportedError: the suffix is another.
        DataError: a column of the inputs has the name of a column that would be added.
    """
    if suffix not in (".csv", ".jsonl"):
        raise UnsupportedError(f"answers cannot be written as '{suffix}'.", where="output", hint="Known: .csv, .jsonl.")
    rows = zip(table.records, answers, strict=True)
    if suffix == ".jsonl":
        added = (PREDICTED, "probabilities", ERROR)
        _refuse_taken(table, added)
        return "".join(json.dumps(_object(*row), ensure_ascii=False, allow_nan=False) + "\n" for row in rows)
    labels = sorted({label for answer in answers for label in answer.probabilities or {}})
    columns = (PREDICTED, *(f"probability_{label}" for label in labels), ERROR)
    _refuse_taken(table, columns)
    lines = [_csv_line((*table.columns, *columns))]
    for record, answer in rows:
        probabilities = answer.probabilities or {}
        figures = (f"{probabilities[label]:.6f}" if label in probabilities else "" for label in labels)
        kept = (cell_of(record.values.get(column)) for column in table.columns)
        lines.append(_csv_line((*kept, answer.said or "", *figures, answer.error or "")))
    return "".join(lines)


def write_answers(path: Path, table: Table, answers: Sequence[Answer]) -> None:
    """Write a .csv or .jsonl file, whole or not at all; errors are those of `render_answers`.

    A csv starts with a byte-order mark if that of the inputs does: Excel reads such files as UTF-8, and no others.
    """
    suffix = path.suffix.lower()
    mark = "\ufeff" if table.marked and suffix == ".csv" else ""
    write_text(path, mark + render_answers(table, answers, suffix))


def check_output(path: Path) -> None:
    """Refuse an output file of an unknown kind before anything is answered; errors are those of `render_answers`."""
    render_answers(Table(path, (), ()), (), path.suffix.lower())


def _csv_line(cells: Iterable[str]) -> str:
    """One row of a csv. A cell with a bare carriage return is quoted too: readers take it for the end of a row."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\r\n").writerow(cells)  # quotes cells with any character of this
    return text.getvalue().removesuffix("\r\n") + "\n"


def _refuse_taken(table: Table, added: Sequence[str]) -> None:
    for name in added:
        if name in table.columns:
            raise DataError(
                f"has a column '{name}', which is the name of a column of answers.",
                where=str(table.path),
                hint="Rename it.",
            )


def _object(record: Record, answer: Answer) -> dict[str, Any]:
    probabilities = None if answer.probabilities is None else dict(answer.probabilities)
    added = {PREDICTED: answer.said, "probabilities": probabilities, ERROR: answer.error}
    return {name: json_of(value) for name, value in {**record.values, **added}.items()}
