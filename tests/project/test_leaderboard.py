"""The leaderboard says what the ledger holds: figures by scipy, statsmodels and scikit-learn on the stored answers."""

from __future__ import annotations

import dataclasses
import json
import re
import runpy
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest
from drawn import plain
from filled_ledger import FULL, MODEL, SMALL, Spec, environment, fill, prompted
from scipy.stats import binomtest
from sklearn.metrics import accuracy_score, f1_score
from small_data import reviews, write_csv
from statsmodels.stats.proportion import proportion_confint

from germinal.cli.views import leaderboard as leaderboard_view
from germinal.errors import LedgerError
from germinal.ledger import Ledger, LimitRecord
from germinal.project import Project
from germinal.project.board import formats, sentences
from germinal.project.board.leaderboard import Leaderboard, leaderboard, mixed_environments
from germinal.project.init.proposal import propose
from germinal.project.init.writer import write_project

WINNER = f"{MODEL}/lora-r8/zero-shot/likelihood"


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Ledger:
    return fill(tmp_path_factory.mktemp("ledger") / "ledger.sqlite")


@pytest.fixture(scope="module")
def board(ledger: Ledger) -> Leaderboard:
    return leaderboard(ledger)


def test_figures_are_those_of_the_stored_answers(ledger: Ledger, board: Leaderboard) -> None:
    for row in board.rows:
        if row.replicates > 1:
            continue
        for split, figures in (("dev", row.dev), ("test", row.test)):
            if not figures:
                continue
            answers = ledger.answers(row.id, split=split)
            targets, given = [answer.target for answer in answers], [answer.answer or "" for answer in answers]
            accuracy = accuracy_score(targets, given)
            low, high = proportion_confint(round(accuracy * len(answers)), len(answers), method="wilson")
            figure = figures["accuracy"]
            assert (figure.value, figure.low, figure.high) == pytest.approx((accuracy, low, high))
            assert figure.n == len(answers) == (60 if split == "dev" else 40)


def test_figures_of_a_real_run(tmp_path: Path) -> None:
    write_csv(tmp_path / "reviews.csv", reviews())
    project = Project(write_project(propose(tmp_path / "reviews.csv", models=()), tmp_path))
    project.run()
    board = project.leaderboard()
    for row in board.rows:
        answers = project.ledger.answers(row.id)
        targets, given = [answer.target for answer in answers], [answer.answer for answer in answers]
        right = sum(map(str.__eq__, targets, given))
        low, high = proportion_confint(right, len(answers), method="wilson")
        accuracy, f1 = row.dev["accuracy"], row.dev["f1_macro"]
        assert (accuracy.value, accuracy.low, accuracy.high) == pytest.approx((right / len(answers), low, high))
        assert f1.value == pytest.approx(f1_score(targets, given, average="macro"))
        assert f1.low is not None
        assert f1.high is not None
        assert f1.low <= f1.value <= f1.high


def test_best_is_on_top_and_places_follow_the_primary_metric(board: Leaderboard) -> None:
    values = [row.dev["accuracy"].value for row in board.rows]
    assert values == sorted(values, reverse=True)
    assert [row.place for row in board.rows] == list(range(1, len(SMALL) + 1))


def test_paired_tests_are_mcnemar_on_the_answers(ledger: Ledger, board: Leaderboard) -> None:
    row = board.row(f"{MODEL}/zero-shot/likelihood")
    comparison = row.against("baseline")
    assert comparison is not None
    ours = [answer.correct for answer in ledger.answers(row.id)]
    theirs = [answer.correct for answer in ledger.answers("tfidf")]
    only_ours = sum(a and not b for a, b in zip(ours, theirs, strict=True))
    only_theirs = sum(b and not a for a, b in zip(ours, theirs, strict=True))
    assert comparison.p_value == pytest.approx(binomtest(only_ours, only_ours + only_theirs).pvalue)
    assert comparison.p_adjusted is not None
    assert comparison.p_adjusted >= comparison.p_value
    assert comparison.difference == pytest.approx((only_ours - only_theirs) / len(ours))


def test_replicates_are_one_row_with_their_spread(ledger: Ledger, board: Leaderboard) -> None:
    row = board.row(f"{MODEL}/4-shot/calibrated")
    accuracies = [sum(answer.correct for answer in ledger.answers(f"{row.id}/seed-{seed}")) / 60 for seed in range(3)]
    assert row.replicates == 3
    assert row.dev["accuracy"].value == pytest.approx(sum(accuracies) / 3)
    assert (row.spread["accuracy"].low, row.spread["accuracy"].high) == pytest.approx(
        (min(accuracies), max(accuracies))
    )
    assert row.spread["accuracy"].n == 3


def test_only_the_winner_and_the_baselines_stand_on_test(board: Leaderboard) -> None:
    assert board.winner is not None
    assert [row.id for row in board.tested] == [WINNER, "tfidf", "majority"]
    assert board.winner.id == WINNER
    assert board.winner.tied
    assert board.run.test_looks == 1


def test_costs_and_estimates(board: Leaderboard) -> None:
    timing = board.timings[f"{MODEL}/4-shot/calibrated"]
    spec = next(spec for spec in SMALL if spec.id == f"{MODEL}/4-shot/calibrated")
    assert timing.seconds == pytest.approx(3 * spec.seconds)
    assert timing.peak_memory_bytes == spec.memory
    assert timing.estimate is not None
    assert timing.estimate.seconds == pytest.approx(3 * 0.8 * spec.seconds)
    assert timing.estimate.seconds_factor == pytest.approx(1.25)
    assert timing.estimate.memory_factor == pytest.approx(spec.memory / (620 << 20))
    assert board.row(f"{MODEL}/4-shot/calibrated").tokens.total == 3 * spec.tokens
    assert board.timings["majority"].estimate is None
    assert board.timings[WINNER].by_step["tune"] == 61.0


def test_labels_leave_out_what_all_models_share(board: Leaderboard) -> None:
    assert [row.label for row in board.rows if row.kind == "tuned"] == ["lora-r8 zero-shot likelihood"]
    assert board.row(f"{MODEL}/4-shot/calibrated").label == "4-shot calibrated"
    assert board.row("tfidf").label == "tfidf"


def test_a_single_candidate_is_named_without_its_model(tmp_path: Path) -> None:
    board = leaderboard(
        fill(tmp_path / "ledger.sqlite", specs=(Spec("majority", (0.5,)), Spec("tfidf", (0.6,)), SMALL[3]))
    )
    assert board.row(f"{MODEL}/zero-shot/likelihood").label == "zero-shot likelihood"


def test_weights_unpacked_from_a_quantised_file_are_named_where_the_figures_stand(
    ledger: Ledger, board: Leaderboard
) -> None:
    prompted = [row for row in board.rows if row.model]
    assert {row.weights for row in prompted} == {"float32 (from Q4_1)"}
    said = "Weights: smollm2-135m-instruct in float32 (from Q4_1)."
    assert said in " ".join(plain(leaderboard_view.render(board)).split())
    assert sentences.answering(ledger.results()).endswith(" answers in float32 (from Q4_1).")


def test_json_round_trip(board: Leaderboard) -> None:
    dumped = json.loads(json.dumps(board.to_json()))
    assert Leaderboard.from_json(dumped) == board
    assert list(dumped)[-2:] == ["run", "timings"]


def test_only_run_and_timings_depend_on_the_hour_and_the_machine(tmp_path: Path) -> None:
    slow = tuple(dataclasses.replace(spec, seconds=spec.seconds * 7, memory=spec.memory * 2) for spec in SMALL)
    first = leaderboard(fill(tmp_path / "a.sqlite")).to_json()
    second = leaderboard(fill(tmp_path / "b.sqlite", specs=slow, devices=("cuda: Example",))).to_json()
    assert first["timings"] != second["timings"]
    for value in (first, second):
        del value["run"], value["timings"]
    assert first == second


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Leaderboard:
    return leaderboard(fill(tmp_path_factory.mktemp("ledger") / "ledger.sqlite", specs=FULL))


def test_terminal_fits_100_columns_and_says_the_verdict(full: Leaderboard) -> None:
    text = plain(leaderboard_view.render(full))
    assert max(map(len, text.splitlines())) <= 100
    assert all(f"{row.label} " in text for row in full.rows), "no label is broken"
    assert re.search(r"(Reached|Not shown): accuracy of at least 0\.8 on test; measured 0\.\d{3}", text)
    verdict = r"(Better than the best baseline, tfidf|Not shown .*, tfidf, among all planned comparisons): \+0\.\d{3}"
    assert re.search(verdict, text)
    assert "The test split was looked at once." in text


def test_long_names_are_folded_and_figures_are_not(full: Leaderboard) -> None:
    long = dataclasses.replace(
        full, rows=[dataclasses.replace(row, label=row.label + " long" * 9) for row in full.rows]
    )
    text = plain(leaderboard_view.render(long))
    assert max(map(len, text.splitlines())) <= 100
    for row in long.rows:
        figure = row.dev["accuracy"]
        assert f"{figure.value:.3f} {figure.low:.2f}–{figure.high:.2f}" in text
    assert text.count("long") >= 9 * 2 * len(long.rows)


def test_a_limited_run_and_mixed_devices_are_said(tmp_path: Path) -> None:
    board = leaderboard(fill(tmp_path / "ledger.sqlite", limit=20, devices=("cpu: Example", "cuda: Other")))
    assert any("first 20 rows" in warning for warning in board.run.warnings)
    assert any("Different devices" in warning and "cuda: Other" in warning for warning in board.run.warnings)
    assert "Note:" in plain(leaderboard_view.render(board))


def test_mixed_versions_name_the_library() -> None:
    said = mixed_environments({"a": [environment()], "b": [environment(torch="2.12.0"), environment()]})
    counts = "2.12.0 (1 of 2 trials), 2.13.0 (2 of 2 trials)"
    assert said == [f"Different versions of torch took part in what is compared here: {counts}."]
    assert mixed_environments({"a": [environment()], "b": [environment()]}) == []


def test_unknown_candidate_names_the_nearest(board: Leaderboard) -> None:
    with pytest.raises(LedgerError) as error:
        board.row("tfdif")
    assert "tfidf" in str(error.value)


def test_picture_of_the_leaderboard_is_whole_and_stands_alone(board: Leaderboard) -> None:
    script = Path(__file__).parents[2] / "docs" / "images" / "make_leaderboard.py"
    svg = runpy.run_path(str(script))["draw"](board, "germinal run <here>")
    texts = [element.text for element in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]
    assert texts[0] == "$ germinal run <here>"
    assert {row.label for row in board.rows} <= set(texts)
    assert not re.search(r"href|url\(|@import", svg)


def test_no_run_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LedgerError):
        leaderboard(Ledger.open(tmp_path / "ledger.sqlite"))


def test_a_baseline_that_wins_is_said(tmp_path: Path) -> None:
    specs = (prompted(0, "likelihood", 0.55), Spec("majority", (0.5,)), Spec("tfidf", (0.9,)))
    board = leaderboard(fill(tmp_path / "ledger.sqlite", specs=specs))
    assert (
        sentences.against_baseline(board)
        == "No language model was shown to be better: the plain baseline tfidf is proposed."
    )


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        (LimitRecord("memory_gb", 4, 1.2, True), "Within the limit of 4 GB for peak memory: 1.2 GB measured."),
        (
            LimitRecord("latency_ms", 300, 412.0, False),
            "Over the limit of 300 ms for the time of one answer: 412 ms measured.",
        ),
        (
            LimitRecord("memory_gb", 4, None, None),
            "It is not known whether the limit of 4 GB for peak memory is kept.",
        ),
    ],
)
def test_limits_in_words(limit: LimitRecord, expected: str) -> None:
    assert sentences.limit(limit) == expected


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (formats.p_value(0.0004), "<.001"),
        (formats.p_value(0.0241), ".024"),
        (formats.p_value(1.0), "1"),
        (formats.p_value(None), "–"),
        (formats.p_stated(0.0001), "p<.001"),
        (formats.p_stated(0.5), "p=.500"),
        (formats.difference(-0.05), "−0.050"),
        (formats.difference(0.05), "+0.050"),
        (formats.count(0), "0"),
        (formats.count(999), "999"),
        (formats.count(12_345), "12.3k"),
        (formats.count(134_515_008), "135M"),
        (formats.duration(0.04), "0.0 s"),
        (formats.duration(59.4), "59 s"),
        (formats.duration(187), "3:07 min"),
        (formats.duration(3_750), "1:02:30 h"),
        (formats.memory(812 << 20), "812 MiB"),
        (formats.memory(3 << 30), "3.00 GiB"),
        (formats.factor(1.333), "×1.33"),
        (formats.factor(12.0), "×12"),
    ],
)  # fmt: skip
def test_figures_in_words(written: Any, expected: str) -> None:
    assert written == expected
