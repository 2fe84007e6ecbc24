"""Two trials side by side: the cells, the test, and every example on which they differ, with raw outputs."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from drawn import plain
from filled_ledger import MODEL, NASTY, fill
from scipy.stats import binomtest

from germinal.cli.views import comparison as comparison_view
from germinal.errors import LedgerError, SettingError
from germinal.ledger import Ledger
from germinal.project.board.comparison import compare

GENERATE, LIKELIHOOD = f"{MODEL}/zero-shot/generate", f"{MODEL}/zero-shot/likelihood"


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Ledger:
    return fill(tmp_path_factory.mktemp("ledger") / "ledger.sqlite")


def test_cells_and_test_are_those_of_the_answers(ledger: Ledger) -> None:
    comparison = compare(ledger, GENERATE, LIKELIHOOD)
    first, second = ledger.answers(GENERATE), ledger.answers(LIKELIHOOD)
    pairs = [(one.correct, other.correct) for one, other in zip(first, second, strict=True)]
    cells = (comparison.both_right, comparison.only_first, comparison.only_second, comparison.neither)
    expected = [pairs.count(pair) for pair in ((True, True), (True, False), (False, True), (False, False))]
    assert list(cells) == expected
    assert sum(cells) == comparison.n == 60
    assert comparison.difference == pytest.approx((expected[1] - expected[2]) / 60)
    assert comparison.p_value == pytest.approx(binomtest(expected[1], expected[1] + expected[2]).pvalue)
    assert comparison.low < comparison.difference < comparison.high


def test_differing_examples_come_with_raw_outputs(ledger: Ledger) -> None:
    comparison = compare(ledger, GENERATE, LIKELIHOOD)
    answers = {answer.row_id: answer for answer in ledger.answers(GENERATE)}
    others = {answer.row_id: answer for answer in ledger.answers(LIKELIHOOD)}
    expected = [row for row in answers if answers[row].answer != others[row].answer]
    assert [difference.row_id for difference in comparison.differing] == expected
    assert expected
    failed = next(difference for difference in comparison.differing if difference.first.answer is None)
    assert failed.first.text == failed.first.raw == " What a film!\nReally"
    assert failed.first.error == "no label in the text"
    assert failed.second.text is None
    assert failed.second.probabilities is not None
    assert failed.second.probabilities.keys() == {"neg", "pos"}
    assert re.fullmatch(r"(neg|pos) 0\.\d{3}, (neg|pos) 0\.\d{3}", failed.second.raw)


def test_a_candidate_with_one_replicate_may_be_named_by_itself_others_not(ledger: Ledger) -> None:
    with pytest.raises(LedgerError, match="3 replicates") as error:
        compare(ledger, f"{MODEL}/4-shot/calibrated", "tfidf")
    assert "seed-2" in str(error.value)
    assert compare(ledger, f"{MODEL}/4-shot/calibrated/seed-0", "tfidf").n == 60


def test_test_split_only_where_it_was_measured(ledger: Ledger) -> None:
    assert compare(ledger, f"{MODEL}/lora-r8/zero-shot/likelihood", "tfidf", split="test").n == 40
    with pytest.raises(LedgerError, match="measure/test"):
        compare(ledger, GENERATE, "tfidf", split="test")


def test_misspelt_and_equal_trials_are_errors(ledger: Ledger) -> None:
    with pytest.raises(LedgerError) as error:
        compare(ledger, "tfidff", "majority")
    assert "tfidf" in str(error.value)
    with pytest.raises(SettingError, match="twice"):
        compare(ledger, "tfidf", "tfidf")


def test_terminal_shows_text_as_it_is(ledger: Ledger) -> None:
    comparison = compare(ledger, "majority", GENERATE)
    text = plain(comparison_view.render(comparison))
    assert max(map(len, text.splitlines())) <= 100
    assert "exploratory" in text
    assert all(line == line.rstrip() for line in text.splitlines())
    assert f"{len(comparison.differing)} examples answered differently" in text
    nasty = [difference for difference in comparison.differing if difference.input == NASTY]
    assert not nasty or "<script>alert('x')</script>" in text


def test_weights_are_named_with_the_trials(ledger: Ledger) -> None:
    comparison = compare(ledger, "majority", LIKELIHOOD)
    assert comparison.weights == (None, "float32 (from Q4_1)")
    assert f"B  {LIKELIHOOD}, float32 (from Q4_1)" in plain(comparison_view.render(comparison))


def test_json(ledger: Ledger, tmp_path: Path) -> None:
    dumped = json.loads(json.dumps(compare(ledger, GENERATE, "tfidf").to_json()))
    assert dumped["first"] == GENERATE
    assert dumped["differing"][0]["second"].keys() == {"answer", "correct", "text", "probabilities", "error", "score"}
