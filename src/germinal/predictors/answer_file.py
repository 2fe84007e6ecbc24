"""Files of new inputs and of the answers to them: what `germinal predict` reads and writes.

A file of answers keeps every column of the inputs, and adds `predicted`, the probabilities, and `error`, which says why
an answer is missing.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from germinal.data.readers import Record, Table, read_table
from germinal.errors import DataError, UnsupportedError
from germinal.predictors.answers import Answer
from germinal.storage import write_text

PREDICTED, ERROR = "predicted", "error"


def read_inputs(path: Path, column: str) -> tuple[Table, list[str]]:
    """A table of new inputs, and the texts in its input column.

    A .txt file has one input on each line and no column names; blank lines do not count.

    Raises:
        DataError: the file is missing, empty or malformed, lacks the column, or has a row without a text.
        UnsupportedError: the file is of another kind.
    """
    table = _read_lines(path, column) if path.suffix.lower() == ".txt" else read_table(path)
    table.require_column(column)
    texts = []
    for record in table.records:
        text = record.values.get(column)
        if not isinstance(text, str) or not text.strip():
            raise DataError(f"the input '{column}' is empty or not a text.", where=record.where)
        texts.append(text)
    return table, texts


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
        return "".join(json.dumps(_object(*row), ensure_ascii=False, default=str) + "\n" for row in rows)
    labels = sorted({label for answer in answers for label in answer.probabilities or {}})
    columns = (PREDICTED, *(f"probability_{label}" for label in labels), ERROR)
    _refuse_taken(table, columns)
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow((*table.columns, *columns))
    for record, answer in rows:
        probabilities = answer.probabilities or {}
        figures = (f"{probabilities[label]:.6f}" if label in probabilities else "" for label in labels)
        kept = (record.values.get(column, "") for column in table.columns)
        writer.writerow((*kept, answer.said or "", *figures, answer.error or ""))
    return text.getvalue()


def write_answers(path: Path, table: Table, answers: Sequence[Answer]) -> None:
    """Write a .csv or .jsonl file, whole or not at all; errors are those of `render_answers`."""
    write_text(path, render_answers(table, answers, path.suffix.lower()))


def check_output(path: Path) -> None:
    """Refuse an output file of an unknown kind before anything is answered; errors are those of `render_answers`."""
    render_answers(Table(path, (), ()), (), path.suffix.lower())


def _read_lines(path: Path, column: str) -> Table:
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except FileNotFoundError:
        raise DataError("no such data file.", where=str(path)) from None
    except UnicodeDecodeError as error:
        raise DataError("is not UTF-8 text.", where=str(path), hint="Save the file in UTF-8 and run again.") from error
    records = tuple(
        Record({column: line.rstrip("\r")}, f"{path}:{number}")
        for number, line in enumerate(lines, start=1)
        if line.strip()
    )
    if not records:
        raise DataError("the data file has no rows.", where=str(path), hint="Give it at least one input.")
    return Table(path, (column,), records)


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
    return {**record.values, PREDICTED: answer.said, "probabilities": probabilities, ERROR: answer.error}
