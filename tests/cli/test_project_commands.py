"""The life cycle through the command line: init, plan, run, leaderboard, compare, why, report, predict."""

from __future__ import annotations

import csv
import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Germinal = Callable[..., Any]

SMALL = ("--set", "select.models=[]")


def test_the_whole_life_cycle_of_a_tiny_project(germinal: Germinal, project: Path, tmp_path: Path) -> None:
    planned = germinal("plan", project)
    assert " end at <|im_end|>." in planned.out
    assert planned.code == 0, planned.err
    assert "4 trials of 4 candidates" in planned.out
    assert "to run" in planned.out
    assert "differ by" not in planned.out  # fifteen rows tell nothing
    assert (
        "Dev can tell apart candidates that differ by" in germinal("plan", project, "--set", "scope.split.dev=300").out
    )

    done = germinal("run", project)
    assert done.code == 0, done.err
    report = project / "report.html"
    assert str(report) in done.out
    assert "<html" in report.read_text(encoding="utf-8")
    for expected in ("majority", "tfidf", "generate", "calibrated", "accuracy", "f1_macro", "test"):
        assert expected in done.out

    again = germinal("run", project, "--no-report")
    assert again.code == 0
    assert "0 rows predicted" in again.err
    states = {step["state"] for step in json.loads(germinal("plan", project, "--json").out)["steps"]}
    assert states == {"cached"}

    shown = germinal("leaderboard", project)
    assert shown.out.splitlines()[:8] == again.out.splitlines()[:8]
    board = json.loads(germinal("leaderboard", project, "--json").out)
    first = json.loads(germinal("leaderboard", project, "--run", 1, "--json").out)
    for timed in ("run", "timings"):
        del board[timed], first[timed]
    assert board == first

    trials = [trial["id"] for trial in json.loads(germinal("plan", project, "--json").out)["trials"]]
    compared = germinal("compare", *trials[:2], "-p", project, "--json")
    assert json.loads(compared.out)["n"] == 15
    assert trials[0] in germinal("compare", *trials[:2], "-p", project).out

    _answer_files(germinal, project, tmp_path)


def _answer_files(germinal: Germinal, project: Path, folder: Path) -> None:
    inputs = folder / "new.csv"
    inputs.write_text('text,note\n"A warm, funny film",one\nA dull film,"two, three"\n', encoding="utf-8")
    on_screen = germinal("predict", project, inputs, "--trial", "tfidf")
    rows = list(csv.DictReader(on_screen.out.splitlines()))
    assert [row["predicted"] for row in rows] == ["pos", "neg"]
    assert [row["note"] for row in rows] == ["one", "two, three"]
    assert float(rows[0]["probability_pos"]) + float(rows[0]["probability_neg"]) == pytest.approx(1)

    output = folder / "answers.jsonl"
    lines = folder / "new.txt"
    lines.write_text("A warm film\n\nA dull film\n", encoding="utf-8")
    assert germinal("predict", project, lines, "-o", output, "--trial", "tfidf").code == 0
    answers = [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]
    assert [answer["predicted"] for answer in answers] == ["pos", "neg"]
    assert answers[0]["text"] == "A warm film"
    assert germinal("predict", project, lines, "-o", output).code == 14
    assert germinal("predict", project, lines, "-o", folder / "answers.xls").code == 13
    assert germinal("predict", project, inputs, "--column", "texts").code == 4
    assert germinal("predict", project, inputs, "--trial", "tfdf").code == 16
    winner = germinal("predict", project, lines)
    assert (winner.code, len(winner.out.splitlines())) == (0, 3)


def test_why_names_the_part_that_changed(germinal: Germinal, project: Path) -> None:
    assert germinal("run", project, *SMALL, "--no-report").code == 0
    assert "Nothing changed" in germinal("why", "tfidf", "-p", project).out
    file = project / "germinal.toml"
    file.write_text(file.read_text(encoding="utf-8").replace('"accuracy", "f1_macro"', '"accuracy"'), encoding="utf-8")
    told = germinal("why", "tfidf", "-p", project)
    assert "settings.metrics" in told.out
    assert "1 parts changed" in told.out or "1 part changed" in told.out
    steps = json.loads(germinal("why", "tfidf", "-p", project, "--json").out)["steps"]
    assert {step["role"]: bool(step["changed"]) for step in steps}["measure/dev"]
    assert not {step["role"]: bool(step["changed"]) for step in steps}["fit"]


def test_init_writes_a_project_that_plans(germinal: Germinal, reviews_csv: Path, tmp_path: Path) -> None:
    done = germinal(
        "init", reviews_csv, "-o", tmp_path, "--use-case", "Sort reviews", "--model", "smollm2-135m-instruct"
    )
    assert done.code == 0, done.err
    file = tmp_path / "germinal.toml"
    assert done.out.strip() == str(file)
    written = tomllib.loads(file.read_text(encoding="utf-8"))
    assert (written["scope"]["use_case"], written["scope"]["input"], written["scope"]["target"]) == (
        "Sort reviews",
        "text",
        "label",
    )
    assert germinal("plan", tmp_path, *SMALL).code == 0
    before = file.read_bytes()
    again = germinal("init", reviews_csv, "-o", tmp_path)
    assert (again.code, file.read_bytes()) == (3, before)
    assert germinal("init", reviews_csv, "-o", tmp_path, "--overwrite").code == 0
    assert germinal("init").code == 2


def test_an_override_is_for_one_run_only(germinal: Germinal, project: Path) -> None:
    before = (project / "germinal.toml").read_bytes()
    planned = json.loads(germinal("plan", project, *SMALL, "--set", "scope.split.dev=20", "--json").out)
    assert [trial["id"] for trial in planned["trials"]] == ["majority", "tfidf"]
    assert (project / "germinal.toml").read_bytes() == before
    assert len(json.loads(germinal("plan", project, "--json").out)["trials"]) == 4
