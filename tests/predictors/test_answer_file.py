"""Files of new inputs, and of the answers beside them."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest

from germinal.errors import DataError, UnsupportedError
from germinal.predictors.answer_file import check_output, read_inputs, render_answers, write_answers
from germinal.predictors.answers import Answer

ANSWERS = [
    Answer("pos", "Positive", {"pos": 0.75, "neg": 0.25}),
    Answer(None, "no idea", error="no label at the start of 'no idea'"),
]


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    path = tmp_path / "new.csv"
    path.write_text('id,text\n7,"Warm, and\nfunny"\n8,Dull\n', encoding="utf-8")
    return path


def test_a_csv_keeps_its_columns_and_gains_the_answers(inputs: Path, tmp_path: Path) -> None:
    table, texts = read_inputs(inputs, "text")
    assert texts == ["Warm, and\nfunny", "Dull"]
    output = tmp_path / "answers.csv"
    write_answers(output, table, ANSWERS)
    with output.open(encoding="utf-8", newline="") as file:
        first, second = csv.DictReader(file)
    assert first == {
        "id": "7",
        "text": "Warm, and\nfunny",
        "predicted": "pos",
        "probability_neg": "0.250000",
        "probability_pos": "0.750000",
        "error": "",
    }
    assert (second["predicted"], second["probability_pos"]) == ("", "")
    assert second["error"] == "no label at the start of 'no idea'"


def test_jsonl_keeps_types_and_full_probabilities(tmp_path: Path) -> None:
    inputs = tmp_path / "new.jsonl"
    inputs.write_text('{"id": 7, "text": "Wärm", "tags": ["a"]}\n{"id": 8, "text": "Dull"}\n', encoding="utf-8")
    table, _ = read_inputs(inputs, "text")
    first, second = (json.loads(line) for line in render_answers(table, ANSWERS, ".jsonl").splitlines())
    assert first == {
        "id": 7,
        "text": "Wärm",
        "tags": ["a"],
        "predicted": "pos",
        "probabilities": {"pos": 0.75, "neg": 0.25},
        "error": None,
    }
    assert (second["predicted"], second["probabilities"]) == (None, None)


def test_a_text_file_has_one_input_a_line(tmp_path: Path) -> None:
    path = tmp_path / "new.txt"
    path.write_bytes("\ufeffWarm\r\n\r\n  \nDull\u2028still the same line".encode())
    table, texts = read_inputs(path, "review")
    assert texts == ["Warm", "Dull\u2028still the same line"]
    assert [record.where for record in table.records] == [f"{path}:1", f"{path}:4"]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("new.csv", "id,text\n7,\n", "new.csv:2"),
        ("new.jsonl", '{"text": [5]}\n', "new.jsonl:1"),
        ("new.csv", "id,texts\n7,Warm\n", "Did you mean 'texts'?"),
        ("new.txt", "\n \n", "no rows"),
    ],
)
def test_an_input_without_text_is_refused_with_its_place(tmp_path: Path, name: str, content: str, said: str) -> None:
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=re.escape(said)):
        read_inputs(path, "text")


def test_a_text_file_that_is_missing_or_not_utf8(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such data file"):
        read_inputs(tmp_path / "new.txt", "text")
    (tmp_path / "new.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="not UTF-8"):
        read_inputs(tmp_path / "new.txt", "text")


def test_a_column_that_would_be_overwritten_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "new.csv"
    path.write_text("text,predicted\nWarm,x\nDull,y\n", encoding="utf-8")
    table, _ = read_inputs(path, "text")
    for suffix in (".csv", ".jsonl"):
        with pytest.raises(DataError, match="'predicted'"):
            render_answers(table, ANSWERS, suffix)


def test_an_unknown_kind_of_output_is_told_beforehand(tmp_path: Path) -> None:
    check_output(tmp_path / "answers.CSV")
    with pytest.raises(UnsupportedError, match="xls"):
        check_output(tmp_path / "answers.xls")
