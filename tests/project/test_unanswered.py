"""Answers that cannot count are told beside the verdict, and where most cannot there is no verdict on models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from drawn import plain
from filled_ledger import FULL, MODEL, fill

from germinal.cli.views import comparison as comparison_view
from germinal.cli.views import leaderboard as leaderboard_view
from germinal.ledger import CountsRecord, Ledger
from germinal.project import Project
from germinal.project.board import sentences, unanswered
from germinal.project.board.comparison import compare
from germinal.project.board.leaderboard import Leaderboard, leaderboard
from germinal.project.board.report import report_html


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Leaderboard:
    return leaderboard(fill(tmp_path_factory.mktemp("ledger") / "ledger.sqlite"))


def losing(board: Leaderboard, counts: dict[str, CountsRecord]) -> Leaderboard:
    rows = [replace(row, counts=counts.get(row.id.rpartition("/")[2], CountsRecord(60))) for row in board.rows]
    return replace(board, rows=rows, max_new_tokens=16)


def test_a_ledger_from_before_they_were_counted_has_no_column_and_a_verdict(board: Leaderboard) -> None:
    assert {row.counts for row in board.rows} == {None}
    assert unanswered.no_verdict(board) is None
    assert list(unanswered.lost(board)) == []


def test_some_that_are_lost_are_told_and_the_verdict_stands(board: Leaderboard) -> None:
    some = losing(board, {"generate": CountsRecord(60, cut=3, unparsable=2)})
    assert unanswered.no_verdict(some) is None
    (told,) = unanswered.lost(some)
    assert told.endswith("3 of 60 were cut at max_new_tokens = 16, 2 of 60 named no label.")
    shown = " ".join(plain(leaderboard_view.render(some)).split())
    assert " 5/60 " in shown
    counts = CountsRecord(60, cut=3, unparsable=2)
    assert (unanswered.share(counts), unanswered.kinds(counts)) == ("5/60", ["3 cut", "2 without a label"])
    assert str(sentences.choice(some)) in shown


def test_the_table_keeps_its_columns_on_a_terminal_of_100(tmp_path: Path) -> None:
    board = leaderboard(fill(tmp_path / "ledger.sqlite", specs=FULL))
    shown = plain(leaderboard_view.render(losing(board, {"generate": CountsRecord(900, cut=3, unparsable=422)})))
    cost = shown.split("What it took to answer dev")[1].split("The winner")[0]
    assert max(map(len, shown.splitlines())) <= 100
    assert cost.count("425/900") == 4
    assert cost.count("GiB") + cost.count("MiB") == len(board.rows)
    assert cost.count("zero-shot") == 6


@pytest.mark.parametrize(
    ("counts", "said", "remedy"),
    [
        (CountsRecord(18, cut=18), "18 of 18 were cut at max_new_tokens = 16", "max_new_tokens under"),
        (CountsRecord(18, empty=10), "10 of 18 were empty", "prompts"),
        (CountsRecord(18, failed=2, unparsable=9), "9 of 18 named no label", '"likelihood"'),
    ],
)
def test_where_most_are_lost_there_is_no_verdict_on_models(
    board: Leaderboard, counts: CountsRecord, said: str, remedy: str
) -> None:
    most = losing(board, dict.fromkeys(("generate", "likelihood", "calibrated"), counts))
    sentence = unanswered.no_verdict(most)
    assert sentence is not None
    assert sentence.startswith("No verdict on models: most answers cannot count.")
    assert said in sentence
    assert remedy in sentence
    shown = " ".join(plain(leaderboard_view.render(most)).split())
    assert "No verdict on models" in shown
    assert "Not judged, as most answers cannot count: accuracy of at least 0.8 on test" in shown
    assert str(sentences.choice(most)) not in shown


def test_labels_that_had_room_need_no_more_tokens(board: Leaderboard) -> None:
    """Without max_new_tokens in the project, a text has room for the longest label."""
    most = dict.fromkeys(("generate", "likelihood", "calibrated"), CountsRecord(18, cut=18))
    sentence = unanswered.no_verdict(replace(losing(board, most), max_new_tokens=None))
    assert sentence is not None
    assert "18 of 18 were cut before they named a label." in sentence
    assert "max_new_tokens" not in sentence


def test_of_a_run_they_are_told_in_leaderboard_report_and_compare(make_project: Callable[..., Project]) -> None:
    """A random model names no label."""
    project = make_project(
        "shots = [0, 2]",
        "shots = [0]",
        '["generate", "likelihood", "calibrated"]',
        '["generate"]',
        "[adapt.lora]\nrank = 2\nmicro_batch_size = 4\nlearning_rate = 0.01\n",
        "",
    )
    project.run()
    board = project.leaderboard()
    row = next(row for row in board.rows if row.model)
    answers = project.ledger.answers(row.id)
    assert row.counts is not None
    assert (row.counts.answers, row.counts.lost) == (24, sum(answer.error is not None for answer in answers))
    assert row.counts.lost > 12
    sentence = unanswered.no_verdict(board)
    assert sentence is not None
    assert f"{row.counts.cut} of 24 were cut at max_new_tokens = 3" in sentence
    page = report_html(project.ledger)
    assert "No verdict on models" in page
    assert all(kind in page for kind in (unanswered.share(row.counts), *unanswered.kinds(row.counts)))
    compared = compare(project.ledger, row.id, "tfidf")
    assert compared.counts == (row.counts, CountsRecord(24))
    assert "Of the answers of A," in plain(comparison_view.render(compared))


def test_what_a_filled_ledger_says_of_replicates_is_summed(tmp_path: Path) -> None:
    ledger = fill(tmp_path / "ledger.sqlite")
    with ledger.engine.begin() as connection:
        counted = '{"answers": 60, "failed": 0, "cut": 1, "empty": 0, "unparsable": 0}'
        connection.exec_driver_sql(
            "UPDATE steps SET result_values = json_set(result_values, '$.counts', json(?)) WHERE kind = 'measure'",
            (f"[{counted}, {counted}, {counted}]",),
        )
    found = Ledger.read(tmp_path / "ledger.sqlite").results().candidate(f"{MODEL}/4-shot/calibrated")
    assert found.counts == CountsRecord(180, cut=3)
