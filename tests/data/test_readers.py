"""The readers against files as users have them, and the line at which each kind of damage is named."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from germinal.data.readers import Table, read_table
from germinal.errors import DataError, UnsupportedError


def written(folder: Path, name: str, content: bytes | str) -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def values(table: Table) -> list[dict[str, object]]:
    return [dict(record.values) for record in table.records]


text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\x00"), max_size=20)


@settings(max_examples=40, deadline=None)
@given(rows=st.lists(st.tuples(text, text), min_size=1, max_size=5), bom=st.booleans())
def test_csv_reads_back_what_the_csv_module_wrote(
    rows: list[tuple[str, str]], bom: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("csv") / "rows.csv"
    with path.open("w", encoding="utf-8-sig" if bom else "utf-8", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *rows])
    assert values(read_table(path)) == [{"text": a, "label": b} for a, b in rows]


def test_all_formats_read_the_same_rows(tmp_path: Path) -> None:
    rows = [{"text": "Fine,\nreally", "label": "pos"}, {"text": 'Nö "no"\u2028way', "label": "neg"}]
    with (tmp_path / "rows.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["text", "label"])
        writer.writeheader()
        writer.writerows(rows)
    with (tmp_path / "rows.tsv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["text", "label"], delimiter="\t")
        writer.writeheader()
        writer.writerows(rows)
    written(tmp_path, "rows.jsonl", "\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n\n")
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    for kind in ("csv", "tsv", "jsonl", "parquet"):
        table = read_table(tmp_path / f"rows.{kind}")
        assert table.columns == ("text", "label"), kind
        assert values(table) == rows, kind


def test_a_row_is_named_by_its_first_line(tmp_path: Path) -> None:
    path = written(tmp_path, "rows.csv", 'text,label\n"one\ntwo",pos\n\nthree,neg\n')
    assert [record.where for record in read_table(path).records] == [f"{path}:2", f"{path}:5"]


def test_very_long_fields_are_read(tmp_path: Path) -> None:
    limit = csv.field_size_limit()
    table = read_table(written(tmp_path, "rows.csv", "text\n" + "a" * 200_000 + "\n"))
    assert len(str(table.records[0].values["text"])) == 200_000
    assert csv.field_size_limit() == limit


@pytest.mark.parametrize(
    ("name", "content", "line", "says"),
    [
        ("a.csv", b"text,label\ngood,pos\nb\xe9d,neg\n", ":3", "not UTF-8"),
        ("a.csv", "text,label\ngood,pos\nbad, very,neg\n", ":3", "3 fields"),
        ("a.csv", "text,label\ngood\n", ":2", "1 fields"),
        ("a.csv", 'text,label\ngood,pos\n"never closed,neg\n', ":3", "malformed"),
        ("a.csv", 'text,label\n"a" b,pos\n', ":2", "malformed"),
        ("a.csv", "text,text\na,b\n", ":1", "more than once"),
        ("a.csv", "text,\na,b\n", ":1", "no name"),
        ("a.csv", "", "a.csv", "empty"),
        ("a.csv", "text,label\n", "a.csv", "no rows"),
        ("a.jsonl", '{"text": "a"}\n{"text": \n', ":2", "not valid JSON"),
        ("a.jsonl", '{"text": "a"}\n\n["b"]\n', ":3", "object"),
        ("a.jsonl", '{"text": "a"}\n{"text": ' + "[" * 9_999 + "]" * 9_999 + "}", ":2", "nested more than"),
        ("a.jsonl", '{"text": ' + "9" * 5_000 + "}", ":1", "not valid JSON"),
        ("a.jsonl", "", "a.jsonl", "no rows"),
        ("a.jsonl", b'{"text": "a"}\n{"text": "\xff"}', ":2", "not UTF-8"),
        ("a.parquet", b"PAR1 not really", "a.parquet", "parquet"),
        ("a.parquet", b"", "a.parquet", "parquet"),
    ],
)
def test_damage_is_named_with_its_line(tmp_path: Path, name: str, content: bytes | str, line: str, says: str) -> None:
    path = written(tmp_path, name, content)
    with pytest.raises(DataError, match=says) as error:
        read_table(path)
    assert (error.value.where or "").endswith(line)


def test_a_truncated_parquet_file_is_refused(tmp_path: Path) -> None:
    whole = tmp_path / "whole.parquet"
    parquet.write_table(pa.table({"text": ["a"] * 100}), whole)
    half = written(tmp_path, "half.parquet", whole.read_bytes()[:-20])
    with pytest.raises(DataError, match="parquet"):
        read_table(half)


@pytest.mark.parametrize(
    "values",
    [
        pa.array([2**62], pa.timestamp("us")),
        pa.array([10**8], pa.date32()),
        pa.Array.from_buffers(pa.string(), 1, pa.array([b"\xff"]).buffers()),
    ],
    ids=["a time after the year 9999", "a date after it", "text that is not UTF-8"],
)
def test_values_that_python_cannot_hold_are_refused(tmp_path: Path, values: pa.Array) -> None:
    parquet.write_table(pa.table({"text": values}), tmp_path / "rows.parquet")
    with pytest.raises(DataError, match="not a readable parquet file"):
        read_table(tmp_path / "rows.parquet")


def test_a_missing_file_hints_at_its_neighbour(tmp_path: Path) -> None:
    written(tmp_path, "reviews.csv", "text\na\n")
    with pytest.raises(DataError, match=r"Did you mean 'reviews\.csv'"):
        read_table(tmp_path / "review.csv")
    with pytest.raises(DataError, match="no such data file"):
        read_table(tmp_path / "nowhere" / "review.csv")


def test_other_kinds_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match=r"'\.xlsx'.*\.csv, \.jsonl"):
        read_table(written(tmp_path, "rows.xlsx", "x"))
    with pytest.raises(UnsupportedError, match="folders cannot be read"):
        read_table(tmp_path)


def test_a_missing_column_hints_at_the_nearest(tmp_path: Path) -> None:
    table = read_table(written(tmp_path, "rows.csv", "text,label\na,b\n"))
    with pytest.raises(DataError, match=r"no column 'txet'.*Did you mean 'text'"):
        table.require_column("txet")
