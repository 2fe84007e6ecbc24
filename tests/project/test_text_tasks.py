"""Projects whose answers are texts, from germinal.toml to a served predictor; and encoder-decoders in projects."""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from drawn import plain
from generative_models import random_model
from rouge_score.rouge_scorer import RougeScorer
from tiny_models import small_tokenizer
from tiny_project import TEXT_TOML, news, write_rows
from typer.testing import CliRunner

from germinal.cli.main import app
from germinal.cli.views import comparison as comparison_view
from germinal.cli.views import leaderboard as leaderboard_view
from germinal.errors import DataError, ProjectFileError, SettingError, UnsupportedError
from germinal.ledger import Ledger
from germinal.predictors.loading import load_predictor
from germinal.project import Project
from germinal.project.board.comparison import compare
from germinal.project.board.report import report_html


def written(folder: Path, model: Path, *replacements: str) -> Project:
    """A project of texts, with parts of its file replaced."""
    text = TEXT_TOML.format(model=model)
    for old, new in zip(replacements[::2], replacements[1::2], strict=True):
        assert old in text, old
        text = text.replace(old, new)
    (folder / "germinal.toml").write_text(text, encoding="utf-8")
    write_rows(folder / "news.csv", [news(number) for number in range(60)], ("text", "summary"))
    return Project(folder)


@pytest.fixture
def make(tmp_path: Path, tiny_model: Path) -> Callable[..., Project]:
    """`make(old, new, ...)`: a project of texts in a folder of this test, with parts of its file replaced."""

    def made(*replacements: str, model: Path = tiny_model) -> Project:
        return written(tmp_path, model, *replacements)

    return made


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Project:
    """A project of texts that has run, for tests that only read it."""
    project = written(tmp_path_factory.mktemp("ran"), tiny_model)
    project.run()
    return project


@pytest.fixture
def copied(ran: Project, tmp_path: Path, tiny_model: Path) -> Callable[..., Project]:
    """`copied(old, new, ...)`: what has run, in a folder of this test, with parts of its file replaced since."""

    def made(*replacements: str) -> Project:
        shutil.copytree(ran.folder, tmp_path, dirs_exist_ok=True)
        return written(tmp_path, tiny_model, *replacements)

    return made


@pytest.fixture(scope="module", params=["t5", "bart"])
def two_stacks(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random encoder-decoder as transformers saves it."""
    folder: Path = tmp_path_factory.mktemp(request.param)
    tokenizer = small_tokenizer()
    sizes = {"n_positions": 256} if request.param == "t5" else {"max_position_embeddings": 256}
    random_model(request.param, vocab_size=len(tokenizer), **sizes).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def rouge(targets: list[str], said: list[str | None]) -> float:
    """rouge-score's own mean of ROUGE-L."""
    scorer = RougeScorer(["rougeL"])
    scores = [scorer.score(target, text or "")["rougeL"].fmeasure for target, text in zip(targets, said, strict=True)]
    return sum(scores) / len(scores)


def test_a_project_of_texts_from_its_file_to_its_predictors(ran: Project, tmp_path: Path) -> None:
    project = ran
    plan = project.plan()
    assert [candidate.id for candidate in plan.candidates[:2]] == ["lead", "nearest"]
    assert {trial.rule for trial in plan.trials if trial.model} == {"generate"}
    board = project.leaderboard()
    assert (board.answers, board.primary) == ("text", "rougeL")
    assert list(board.rows[0].dev) == ["rougeL", "rouge1", "rouge2"]
    assert {row.kind for row in board.rows} == {"prompted", "tuned", "baseline"}
    for row in board.rows:
        (trial, *_) = [trial for trial in project.ledger.results().trials if trial.candidate == row.id]
        answers = project.ledger.answers(trial.id, split="dev")
        inputs, targets = [answer.input for answer in answers], [answer.target for answer in answers]
        said = [answer.said for answer in project.predictor(trial.id).predict(inputs)]
        assert said == [answer.answer for answer in answers]
        assert trial.figures["dev"]["rougeL"].value == pytest.approx(rouge(targets, said))
        assert (row.cut is None) == (board.answers == "labels")
    assert board.success[0].metric == "rougeL"
    again = project.run()
    assert (again.steps_run.total(), again.rows_predicted) == (0, 0)
    project.winner().save(tmp_path / "winner")
    inputs = [news(number)[0] for number in range(100, 103)]
    assert load_predictor(tmp_path / "winner").predict(inputs) == project.winner().predict(inputs)


def test_answers_that_were_cut_are_counted(ran: Project) -> None:
    project = ran
    (row,) = [row for row in project.leaderboard().rows if (row.kind, row.shots) == ("prompted", 0)]
    answers = project.ledger.answers(row.id, split="dev")
    cut = sum(answer.output is not None and answer.output["finish_reason"] == "length" for answer in answers)
    assert row.cut == cut > 0
    assert f"{cut} of 12" in plain(leaderboard_view.render(project.leaderboard()))
    assert f"{cut} of 12" in report_html(project.ledger)


def test_other_metrics_and_another_task_of_texts_ask_no_model(copied: Callable[..., Project]) -> None:
    project = copied('task = "summarization"', 'task = "translation"', "rougeL = 0.3", "chrf = 30")
    summary = project.run()
    assert project.leaderboard().primary == "chrf"
    assert summary.rows_predicted == 20, "the baseline copy on dev and test, which summaries did not try"
    assert "tune" not in summary.steps_run


def test_longer_answers_are_generated_anew_and_nothing_is_tuned_again(copied: Callable[..., Project]) -> None:
    project = copied("max_new_tokens = 6", "max_new_tokens = 7")
    summary = project.run()
    assert set(summary.steps_run) == {"predict", "measure", "choose"}
    (step,) = [step for step in project.why(f"{model_name(project)}/zero-shot/generate").steps if step.role == "data"]
    assert step.state == "cached"


def test_why_names_what_changed(copied: Callable[..., Project]) -> None:
    project = copied('answer = "Summary:"', 'answer = "Short:"')
    steps = {step.role: step for step in project.why(f"{model_name(project)}/zero-shot/generate").steps}
    assert [part.part for part in steps["predict/dev"].changed] == ["settings.prompt.answer"]


def model_name(project: Project) -> str:
    return Path(project.config.select.models[0]).name


@pytest.mark.parametrize(
    ("edits", "line", "message"),
    [
        (
            ("shots = [0, 2]", 'rules = ["likelihood"]'),
            "rules",
            "rule 'likelihood' does not fit the task 'summarization'",
        ),
        (("[select]", 'metrics = ["accuracy"]\n[select]', "success = { rougeL = 0.3 }\n", ""), "metrics", "accuracy"),
        (('models = ["', 'baselines = ["tfidf"]\nmodels = ["'), "baselines", "What fits: lead, copy, nearest"),
        (("[select]", 'labels = { a = "A" }\n[select]'), "labels", "has no labels"),
        (("[select]", 'metrics = ["rougel"]\n[select]'), "metrics", "rougeL"),
    ],
)
def test_what_does_not_fit_texts_is_an_error_at_its_line(
    make: Callable[..., Project], edits: tuple[str, ...], line: str, message: str
) -> None:
    with pytest.raises(ProjectFileError) as error:
        make(*edits)
    text = (Path(str(error.value.where).rpartition(":")[0])).read_text(encoding="utf-8").splitlines()
    assert text[int(str(error.value.where).rpartition(":")[2]) - 1].startswith(line)
    assert message in str(error.value)


def test_what_fits_texts_does_not_fit_labels(make: Callable[..., Project]) -> None:
    with pytest.raises(ProjectFileError, match="the metric 'rougeL' does not fit the task 'classification'"):
        make('task = "summarization"', 'task = "classification"', "[select]", 'metrics = ["rougeL"]\n[select]')


@pytest.mark.parametrize("task", ["code", "chat"])
def test_tasks_of_another_day_are_refused_by_name(make: Callable[..., Project], task: str) -> None:
    with pytest.raises(UnsupportedError, match=f"'{task}' is not supported yet"):
        make('"summarization"', f'"{task}"', "success = { rougeL = 0.3 }\n", "").plan()


def test_targets_that_the_separator_would_cut_are_refused(make: Callable[..., Project]) -> None:
    with pytest.raises(DataError, match=r"targets contain the separator ' and '.*film|separator"):
        make("shots = [0, 2]", 'shots = [0, 2]\nseparator = " and "').run()


def test_comparing_shows_where_two_texts_differ_most(ran: Project) -> None:
    project = ran
    first, second = f"{model_name(project)}/zero-shot/generate", "nearest"
    compared = compare(project.ledger, first, second)
    assert (compared.metric, compared.n) == ("rougeL", 12)
    answers = [project.ledger.answers(trial, split="dev") for trial in (first, second)]
    figures = [rouge([row.target for row in rows], [row.answer for row in rows]) for rows in answers]
    assert compared.figures == pytest.approx(figures)
    assert compared.difference == pytest.approx(figures[0] - figures[1])
    gaps = [abs((row.first.score or 0) - (row.second.score or 0)) for row in compared.differing]
    assert gaps == sorted(gaps, reverse=True)
    worst = compared.differing[0]
    assert worst.second.score == pytest.approx(rouge([worst.target], [worst.second.answer]))
    shown = plain(comparison_view.render(compared))
    assert "rougeL" in shown
    assert worst.target in shown
    with pytest.raises(SettingError):
        compare(project.ledger, first, first)


def test_the_report_shows_texts_beside_their_references(ran: Project) -> None:
    project = ran
    page = report_html(project.ledger)
    row = project.ledger.answers("nearest", split="dev")[0]
    assert row.target in page
    assert "A below B" in page
    assert "rouge-score" in page
    assert "takes for what" not in page, "texts have no confusion"
    assert re.search(r"nearest: median \d\.\d{3}, half of the rows from", page)
    assert re.search(r"reference of \d+ characters, answer of \d+", page)
    data = json.loads(page.split('<script type="application/json">')[1].split("</script>")[0])
    assert data["texts"] is True
    replies = data["trials"][0]["replies"]
    assert all(len(reply) == 3 and 0 <= reply[1] <= 1 for reply in replies)


def test_the_command_line_answers_with_texts(ran: Project, tmp_path: Path) -> None:
    (tmp_path / "new.csv").write_text("id,text\n7,A warm film take 900. Nobody should miss it.\n", encoding="utf-8")
    result = CliRunner().invoke(app, ["predict", str(ran.folder), str(tmp_path / "new.csv"), "--trial", "lead"])
    assert result.exit_code == 0, result.output
    (row,) = csv.DictReader(result.stdout.splitlines())
    assert (row["id"], row["predicted"]) == ("7", "A warm film take 900.")
    assert CliRunner().invoke(app, ["leaderboard", str(ran.folder)]).exit_code == 0


def test_an_encoder_decoder_summarizes(make: Callable[..., Project], two_stacks: Path) -> None:
    project = make("shots = [0, 2]", "shots = [0]", model=two_stacks)
    project.run()
    board = project.leaderboard()
    assert {row.kind for row in board.rows} == {"prompted", "tuned", "baseline"}
    ledger: Ledger = project.ledger
    for trial in ledger.results().trials:
        rows = ledger.answers(trial.id, split="dev")
        said = [answer.said for answer in project.predictor(trial.id).predict([row.input for row in rows])]
        assert said == [row.answer for row in rows]


def test_an_encoder_decoder_classifies(
    make_project: Callable[..., Project], two_stacks: Path, tiny_model: Path
) -> None:
    project = make_project(str(tiny_model), str(two_stacks), "shots = [0, 2]", "shots = [0]")
    project.run()
    board = project.leaderboard()
    assert {row.rule for row in board.rows} == {None, "generate", "likelihood", "calibrated"}
    assert {row.kind for row in board.rows} == {"prompted", "tuned", "baseline"}
    for trial in project.ledger.results().trials:
        rows = project.ledger.answers(trial.id, split="dev")
        said = [answer.said for answer in project.predictor(trial.id).predict([row.input for row in rows])]
        assert said == [row.answer for row in rows]
