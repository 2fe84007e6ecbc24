"""The same file gives the same texts to a run, to tuning and to predictions, whatever its kind and its types."""

from __future__ import annotations

import csv
import datetime
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from germinal.data import inputs_of, make_dataset, read_pairs, read_table
from germinal.data.normal_forms import tidy
from germinal.data.values import cell_of, json_of, text_of
from germinal.errors import DataError
from germinal.predictors.answer_file import read_inputs, render_answers, write_answers
from germinal.predictors.answers import Answer

NOTHING = (None, "", " \n", float("nan"), "\u200b", Decimal("NaN"))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (1.0, "1"),
        (2.5, "2.5"),
        (True, "true"),
        (False, "false"),
        (10**20, "100000000000000000000"),
        (Decimal("1.50"), "1.5"),
        (Decimal("3.00"), "3"),
        ("NA", "NA"),
        ("null", "null"),
        ("1.0", "1.0"),
        (" as it is ", " as it is "),
        (None, ""),
        (float("nan"), ""),
        (["a"], None),
        (b"a", None),
        (datetime.date(2020, 1, 31), None),
    ],
)
def test_values_as_text(value: object, text: str | None) -> None:
    assert text_of(value) == text


def test_values_that_are_no_text_in_cells_and_in_json() -> None:
    nested = {"tags": ["a", float("nan")], "when": datetime.date(2020, 1, 31), "most": float("inf")}
    assert json_of(nested) == {"tags": ["a", None], "when": "2020-01-31", "most": "inf"}
    assert json.loads(cell_of(nested)) == json_of(nested)
    assert (cell_of(float("nan")), cell_of(None), cell_of(True)) == ("", "", "true")


def read_in_every_way(path: Path) -> list[list[str] | None]:
    """The inputs of a file as a run, tuning, and predictions read them; None where they are refused."""
    ways = (
        lambda: [row.input for row in make_dataset(read_table(path), input="x", target="y").rows],
        lambda: [text for text, _ in read_pairs(path, input="x", target="y")],
        lambda: read_inputs(path, "x")[1],
        lambda: inputs_of(read_table(path), "x"),
    )
    return [_or_none(way) for way in ways]


def _or_none(read: Any) -> list[str] | None:
    try:
        texts: list[str] = read()
        return texts
    except DataError:
        return None


plain = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=6)
values = st.one_of(plain, st.integers(), st.floats(), st.booleans(), st.none(), st.lists(st.integers(), max_size=2))


@settings(max_examples=60, deadline=None)
@given(drawn=st.lists(values, min_size=1, max_size=5, unique_by=lambda value: tidy(cell_of(value))))
def test_a_file_reads_the_same_everywhere(drawn: list[object], tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("same")
    (folder / "a.jsonl").write_text("".join(json.dumps({"x": value, "y": 1}) + "\n" for value in drawn))
    with (folder / "a.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows([("x", "y"), *((cell_of(value), 1) for value in drawn)])
    for name, as_text in (("a.jsonl", text_of), ("a.csv", cell_of)):
        run, *others = read_in_every_way(folder / name)
        assert others == [run] * 3, name
        texts = [as_text(value) or "" for value in drawn]
        assert run == (texts if all(map(tidy, texts)) else None), name


@pytest.mark.parametrize(
    "dtype", [pa.int8(), pa.float64(), pa.bool_(), pa.decimal128(5, 2), pa.string(), pa.large_string()]
)
def test_types_of_parquet(tmp_path: Path, dtype: pa.DataType) -> None:
    path = tmp_path / "a.parquet"
    ones = [Decimal(1) if pa.types.is_decimal(dtype) else "1" if "string" in str(dtype) else 1, None]
    column = pa.array([bool(ones[0]), None] if dtype == pa.bool_() else ones, dtype)
    parquet.write_table(pa.table({"x": column[:1], "y": ["a"]}), path)
    expected = ["true" if dtype == pa.bool_() else "1"]
    assert read_in_every_way(path) == [expected] * 4
    parquet.write_table(pa.table({"x": column, "y": ["a", "b"]}), path)
    assert read_in_every_way(path) == [None] * 4


@pytest.mark.parametrize("nothing", NOTHING[:5])
def test_a_row_without_an_input_is_refused_everywhere_with_its_place(tmp_path: Path, nothing: object) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"x": value, "y": 1}) + "\n" for value in ("a", nothing)), encoding="utf-8")
    assert read_in_every_way(path) == [None] * 4
    with pytest.raises(DataError, match=r"1 of 2 rows have no value in column 'x': .*a.jsonl:2"):
        read_inputs(path, "x")


def test_half_a_character_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"x": "\\ud83d\\ude00"}\n{"x": "a", "other": ["\\uD83D"]}\n')
    with pytest.raises(DataError, match=r"\\ud83d, which is half of a character") as error:
        read_table(path)
    assert (error.value.where or "").endswith("a.jsonl:2")


cells = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\x00") | st.sampled_from('\r\n",;\t= '), max_size=8
)


@settings(max_examples=100, deadline=None)
@given(rows=st.lists(st.tuples(cells, cells), min_size=1, max_size=4), marked=st.booleans())
def test_a_csv_of_answers_is_read_by_germinal_pandas_and_the_csv_module(
    rows: list[tuple[str, str]], marked: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("csv")
    with (folder / "a.csv").open("w", encoding="utf-8-sig" if marked else "utf-8", newline="") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows(
            [("id", "x"), *((str(n), x) for n, (x, _) in enumerate(rows))]
        )
    table = read_table(folder / "a.csv")
    write_answers(folder / "b.csv", table, [Answer(None, said) for _, said in rows])
    expected = [(str(number), text, said) for number, (text, said) in enumerate(rows)]
    wanted = ("id", "x", "predicted")
    again = read_table(folder / "b.csv")
    assert [tuple(record.values[name] for name in wanted) for record in again.records] == expected
    frame = pd.read_csv(folder / "b.csv", dtype=str, keep_default_na=False)
    assert list(frame[list(wanted)].itertuples(index=False, name=None)) == expected
    with (folder / "b.csv").open(encoding="utf-8-sig", newline="") as file:
        assert [tuple(row[name] for name in wanted) for row in csv.DictReader(file, strict=True)] == expected
    assert again.marked == marked  # what comes from Excel can go back to it


def test_missing_values_of_any_kind_stay_missing(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    columns = {"x": ["a", "b"], "score": [float("nan"), 2.0], "seen": [None, True], "tags": [["é"], None]}
    parquet.write_table(pa.table(columns), path)
    table, _ = read_inputs(path, "x")
    answers = [Answer("pos", "pos"), Answer(None, "", error="none")]
    lines = render_answers(table, answers, ".csv").splitlines()
    assert lines[1:] == ['a,,,"[""é""]",pos,', "b,2,true,,,none"]

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    written = [
        json.loads(line, parse_constant=refuse) for line in render_answers(table, answers, ".jsonl").splitlines()
    ]
    assert [row["score"] for row in written] == [None, 2.0]
    assert written[1]["seen"] is True
