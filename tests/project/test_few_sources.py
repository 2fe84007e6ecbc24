"""Projects whose rows come from few sources, or repeat each other: verdicts, reasons, comparisons."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from typer.testing import CliRunner

from germinal.cli.main import app
from germinal.errors import SettingError
from germinal.project import Project
from germinal.project.board import sentences

TOML = """
[scope]
task = "{task}"
data = "rows.csv"
input = "text"
target = "answer"
{group}
split = {{ dev = 30, test = 30 }}
metrics = {metrics}
success = {{ {success} }}

[select]
baselines = {baselines}
"""


def project(folder: Path, rows: list[tuple[str, str, str]], *, grouped: bool = True, texts: bool = False) -> Project:
    with (folder / "rows.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("text", "answer", "source"), *rows])
    toml = TOML.format(
        task="generation" if texts else "classification",
        group='group = "source"' if grouped else "",
        metrics='["chrf"]' if texts else '["accuracy", "f1_macro"]',
        success="chrf = 1" if texts else "accuracy = 0.2",
        baselines='["copy", "nearest"]' if texts else '["majority", "tfidf"]',
    )
    (folder / "germinal.toml").write_text(toml, encoding="utf-8")
    return Project(folder)


def reviews(groups: int, right: str = "pos") -> list[tuple[str, str, str]]:
    """150 films, half of them good, from so many sources."""
    return [
        (f"{('fine', 'dull')[number % 2]} film {number}", (right, "neg")[number % 2], f"source {number % groups}")
        for number in range(150)
    ]


def test_four_sources_reach_nothing_and_tell_nothing_apart(tmp_path: Path) -> None:
    made = project(tmp_path, reviews(groups=15))
    made.run()
    results = made.ledger.results()
    assert [results.splits[name].units for name in ("dev", "test")] == [3, 3]
    (success,) = results.success
    assert success.figure is not None
    assert success.figure.value > 0.2
    assert success.verdict == "not shown"
    assert results.detectable_difference is None
    said = sentences.success(success, made.leaderboard())
    assert "examples in 3 groups, where at least 5 are needed" in said
    assert results.choice is not None
    assert "Dev has only 3 groups: no paired test of so few can tell 2 candidates apart." in results.choice.reason
    majority = results.candidate("majority").figures["dev"]["accuracy"]
    assert majority.method in ("jackknife over 3 groups", "Wilson, as the jackknife over 3 groups has no spread")
    assert all(comparison.p_value >= 0.25 for comparison in results.comparisons)


def test_many_sources_can(tmp_path: Path) -> None:
    made = project(tmp_path, reviews(groups=150))
    made.run()
    results = made.ledger.results()
    assert results.splits["test"].units == 30
    assert results.success[0].verdict == "reached"
    assert results.choice is not None
    assert "no paired test" not in results.choice.reason
    assert results.candidate("tfidf").figures["dev"]["accuracy"].method == "Wilson"  # no source has two rows


def test_without_an_interval_nothing_breaks(tmp_path: Path) -> None:
    rows = [(f"a text of {number}", "the same words", f"source {number % 5}") for number in range(150)]
    made = project(tmp_path, rows, texts=True)
    made.run()
    figure = made.ledger.results().candidate("nearest").figures["test"]["chrf"]
    assert (figure.low, figure.method) == (None, "none, as there is 1 group") or figure.low is not None
    for command in (["leaderboard"], ["report", "--output", str(tmp_path / "report.html")]):
        assert CliRunner().invoke(app, [*command, str(made.folder)]).exit_code == 0
    compared = CliRunner().invoke(app, ["compare", "copy", "nearest", "-p", str(made.folder)])
    assert compared.exit_code == 0
    assert "no interval can be given" in compared.output.replace("\n", " ")


def test_near_duplicates_count_as_one_without_groups_too(tmp_path: Path) -> None:
    twice = [(text.upper() if copy else text, label, "") for text, label, _ in reviews(150) for copy in (0, 1)]
    made = project(tmp_path, twice, grouped=False)
    made.run()
    results = made.ledger.results()
    assert (results.splits["dev"].rows, results.splits["dev"].units) == (30, 15)
    assert results.candidate("tfidf").figures["dev"]["accuracy"].method.count("15 groups") == 1


def test_a_label_spelt_twice_is_refused_when_data_are_read(tmp_path: Path) -> None:
    rows = reviews(groups=150)
    made = project(tmp_path, [*rows[:60], *((text, label.title(), source) for text, label, source in rows[60:])])
    with pytest.raises(SettingError, match=r"labels 'Neg' and 'neg' have the same word .*Write a label alike"):
        made.run()
