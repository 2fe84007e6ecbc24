"""Encoders with a classification head as trials of a project: run, edited, killed, shipped, served."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from drawn import plain
from tiny_encoders import save_encoder
from tiny_project import TOML, review, write_rows

import germinal
from germinal.cli.views import leaderboard as leaderboard_view
from germinal.errors import ContextWindowError, GerminalError, LedgerError, ProjectFileError, UnsupportedError
from germinal.predictors.classifier_predictor import ClassifierPredictor
from germinal.project import Project
from germinal.project.board.leaderboard import leaderboard
from germinal.project.board.report import report_html
from germinal.project.file.config import HeadSettings
from germinal.project.run.runner import RunSummary
from germinal.training.config import HEAD_TRAINING

ROWS, DEV, TEST = 140, 24, 16
HEAD = """\
[adapt.head]
models = ["{encoder}"]
epochs = 12
micro_batch_size = 8
learning_rate = 0.005
"""
LORA = "[adapt.lora]\nrank = 2\nmicro_batch_size = 4\nlearning_rate = 0.01\n"
EVERY_STEP = Counter(data=1, fit=1, model=1, tune=1, predict=4, measure=4, choose=1, clock=1)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "enc"
    folder.mkdir()
    return save_encoder(folder, "BertModel")


def toml(encoder: Path, *models: Path) -> str:
    """A project of a majority baseline, an encoder with a head, and whatever else."""
    text = TOML.format(model=encoder).replace(LORA, HEAD.format(encoder=encoder))
    named = ", ".join(f'"{model}"' for model in (encoder, *models))
    text = text.replace(f'models = ["{encoder}"]\nbaselines', f"models = [{named}]\nbaselines")
    return text.replace('["majority", "tfidf"]', '["majority"]').replace(
        "success = {", "limits = { latency_ms = 60000 }\nsuccess = {"
    )


def write_project(folder: Path, text: str, rows: int = ROWS) -> Project:
    folder.mkdir(exist_ok=True)
    (folder / "germinal.toml").write_text(text, encoding="utf-8")
    write_rows(folder / "reviews.csv", [review(number) for number in range(rows)])
    return Project(folder)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, encoder: Path) -> tuple[Path, RunSummary]:
    """A project that was run to its end, to be copied."""
    project = write_project(tmp_path_factory.mktemp("done") / "project", toml(encoder))
    summary = project.run()
    project.ledger.close()
    return project.folder, summary


@pytest.fixture
def copy(done: tuple[Path, RunSummary], tmp_path: Path) -> Path:
    return Path(shutil.copytree(done[0], tmp_path / "copy"))


def edit(folder: Path, old: str, new: str) -> None:
    text = (folder / "germinal.toml").read_text(encoding="utf-8")
    assert old in text, old
    (folder / "germinal.toml").write_text(text.replace(old, new), encoding="utf-8")


def test_the_defaults_of_the_project_file_are_those_of_the_command() -> None:
    settings = HeadSettings(models=["x"])
    assert settings.training_config(seed=HEAD_TRAINING.seed, save_every=HEAD_TRAINING.save_every) == HEAD_TRAINING


def test_a_head_is_tuned_measured_chosen_tested_and_clocked(done: tuple[Path, RunSummary]) -> None:
    folder, summary = done
    assert summary.steps_run == EVERY_STEP
    assert summary.rows_predicted == 2 * (DEV + TEST)
    results = Project(folder).ledger.results()
    assert [trial.id for trial in results.trials] == ["majority", "enc/head"]
    candidate = results.candidate("enc/head")
    assert (candidate.kind, candidate.adapter, candidate.rule, candidate.shots) == ("model", "head", None, None)
    assert candidate.figures["dev"]["accuracy"].value > 0.9
    assert results.choice is not None
    assert results.choice.winner == "enc/head"
    assert candidate.figures["test"]["accuracy"].n == TEST
    assert {(item.first, item.role) for item in results.comparisons} >= {("enc/head", "baseline")}
    lm = germinal.load(_tuned(folder) / "model")
    assert candidate.parameters == lm.network.num_parameters()
    texts = [row.input for row in Project(folder).ledger.answers("enc/head")]
    read = sum(len(lm.tokenizer.encode(text)) for text in texts)
    assert candidate.cost.tokens == candidate.cost.prompt_tokens == read
    assert candidate.work == pytest.approx(read / DEV * lm.network.num_parameters())
    assert candidate.cost.by_step["tune"] > 0
    assert candidate.cost.by_step["predict"] > 0
    assert candidate.cost.peak_memory_bytes
    (trial,) = candidate.trials
    assert trial.estimate is not None
    assert trial.estimate.parameters == candidate.parameters
    assert [step["step"] for step in Project(folder).ledger.history("enc/head")] == list(range(1, 145))


def _tuned(folder: Path) -> Path:
    (tuned,) = (folder / ".germinal" / "artifacts").glob("tune-*")
    return tuned


def test_leaderboard_report_and_comparison_show_it(done: tuple[Path, RunSummary]) -> None:
    ledger = Project(done[0]).ledger
    board = leaderboard(ledger)
    assert [(row.label, row.kind) for row in board.rows] == [("enc/head", "tuned"), ("majority", "baseline")]
    assert "enc/head" in plain(leaderboard_view.render(board))
    page = report_html(ledger)
    assert "Loss: tune enc, classification head" in page
    assert "The loss of the labels." in page
    from germinal.project.board.comparison import compare

    found = compare(ledger, "enc/head", "majority")
    assert found.n == DEV
    assert found.only_first == len([each for each in found.differing if each.first.correct])


def expect(folder: Path, steps: dict[str, int], predicted: int) -> RunSummary:
    project = Project(folder)
    summary = project.run()
    assert (dict(summary.steps_run), summary.rows_predicted) == (steps, predicted)
    assert project.run().steps_run.total() == 0
    return summary


def test_touching_nothing_runs_nothing(copy: Path) -> None:
    (copy / "germinal.toml").touch()
    assert {step.state for step in Project(copy).plan().steps} == {"cached"}
    expect(copy, {}, 0)


def test_an_instruction_and_words_for_labels_are_nothing_to_it(copy: Path) -> None:
    edit(copy, '"Classify:"', '"Judge:"')
    edit(copy, 'pos = "Positive"', 'pos = "Good"')
    edit(copy, "[adapt.head]", '[adapt.head]\ntruncate_side = "left"')  # nothing is cut
    expect(copy, {}, 0)


def test_another_learning_rate_tunes_it_again_and_leaves_the_baseline_alone(copy: Path) -> None:
    edit(copy, "learning_rate = 0.005", "learning_rate = 0.004")
    steps = {step.name for step in Project(copy).plan().steps if step.state == "run"}
    assert steps >= {"tune enc, classification head"}
    why = {step.role: step for step in Project(copy).why("enc/head").steps}
    (change,) = why["tune"].changed
    assert (change.part, change.before, change.now) == ("settings.head.learning_rate", 0.005, 0.004)
    expect(copy, {"tune": 1, "predict": 2, "measure": 2, "choose": 1, "clock": 1}, DEV + TEST)


def test_a_new_metric_only_measures(copy: Path) -> None:
    edit(copy, '"f1_macro"]', '"f1_macro", "log_loss"]')
    expect(copy, {"measure": 4}, 0)


def test_another_encoder_beside_it_leaves_it_alone(copy: Path, tmp_path: Path, encoder: Path) -> None:
    (tmp_path / "second").mkdir()
    second = save_encoder(tmp_path / "second", "DistilBertModel")
    edit(copy, f'models = ["{encoder}"]\nbaselines', f'models = ["{encoder}", "{second}"]\nbaselines')
    edit(copy, f'models = ["{encoder}"]\nepochs', f'models = ["{encoder}", "{second}"]\nmax_grad_norm = 1.0\nepochs')
    summary = Project(copy).run()
    assert (summary.steps_run["tune"], summary.steps_run["model"]) == (1, 1)
    assert {trial.id for trial in Project(copy).ledger.results().trials} == {"majority", "enc/head", "second/head"}


def test_one_row_more_in_train_tunes_again(copy: Path) -> None:
    write_rows(copy / "reviews.csv", [review(number) for number in range(ROWS + 1)])
    summary = Project(copy).run()
    assert summary.steps_run["tune"] == 1


def test_a_removed_artifact_is_made_again_to_the_same_weights(copy: Path) -> None:
    before = (_tuned(copy) / "model" / "model.safetensors").read_bytes()
    shutil.rmtree(_tuned(copy))
    with pytest.raises(LedgerError, match="the files of the step 'tune enc, classification head' are gone"):
        Project(copy).winner()
    expect(copy, {"tune": 1}, 0)
    assert (_tuned(copy) / "model" / "model.safetensors").read_bytes() == before


def test_the_winner_answers_as_measured_is_saved_and_read_by_transformers(copy: Path, tmp_path: Path) -> None:
    import transformers

    project = Project(copy)
    rows = project.ledger.answers("enc/head")
    for predictor in (project.winner(), project.predictor("enc/head")):
        answers = predictor.predict([row.input for row in rows])
        assert [answer.label for answer in answers] == [row.answer for row in rows]
        for answer, row in zip(answers, rows, strict=True):
            assert answer.probabilities == pytest.approx(row.probabilities, abs=1e-5)
    shutil.rmtree(copy / "reviews.csv", ignore_errors=True)
    winner = project.winner()
    winner.save(tmp_path / "shipped")
    assert germinal.load_predictor(tmp_path / "shipped").predict([row.input for row in rows]) == winner.predict(
        [row.input for row in rows]
    )
    pipeline = transformers.pipeline("text-classification", model=str(tmp_path / "shipped" / "model"), device="cpu")
    for row, said in zip(rows, pipeline([row.input for row in rows]), strict=True):
        assert said["label"] == row.answer
        assert row.probabilities is not None
        assert said["score"] == pytest.approx(row.probabilities[said["label"]], abs=1e-5)


def test_precisions_are_candidates_of_their_own(tmp_path: Path, encoder: Path) -> None:
    text = toml(encoder) + '\n[apply]\nprecisions = ["float32", "bfloat16"]\n'
    text = text.replace("epochs = 12", "epochs = 1")
    text = text.replace("[apply.generation]\nmax_new_tokens = 3\n", "")
    project = write_project(tmp_path / "project", text, rows=90)
    project.run()
    assert {trial.id for trial in project.ledger.results().trials} >= {"enc/float32/head", "enc/bfloat16/head"}
    predictor = project.predictor("enc/bfloat16/head")
    assert isinstance(predictor, ClassifierPredictor)
    assert str(predictor.lm.network.dtype) == "torch.bfloat16"


def test_prompted_models_stand_beside_it_with_short_names(tmp_path: Path, encoder: Path, tiny_model: Path) -> None:
    text = toml(encoder, tiny_model).replace("shots = [0, 2]", "shots = [0]").replace("epochs = 12", "epochs = 1")
    text = text.replace('"generate", "likelihood", "calibrated"', '"likelihood"')
    project = write_project(tmp_path / "project", text, rows=90)
    summary = project.run()
    assert summary.steps_run["model"] == 2
    labels = {row.id: row.label for row in leaderboard(project.ledger).rows}
    assert labels["enc/head"] == "enc/head"
    prompted = next(id for id in labels if "zero-shot" in id)
    assert labels[prompted] == "zero-shot likelihood"


KILLED = """
import os, signal, sys
from germinal.project import Project
def report(progress):
    if progress.unit == "steps" and progress.done == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
Project(sys.argv[1]).run(reporter=report)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_killed_while_it_is_tuned_and_resumed_it_is_as_if_nothing_had_been(
    done: tuple[Path, RunSummary], tmp_path: Path, encoder: Path
) -> None:
    project = write_project(tmp_path / "project", toml(encoder))
    for step in (15, 45):
        ran = subprocess.run([sys.executable, "-c", KILLED, project.folder, str(step)], check=False)
        assert ran.returncode == -signal.SIGKILL
    project.run()
    quiet = Project(done[0]).ledger
    losses = [[step["loss"] for step in ledger.history("enc/head")] for ledger in (project.ledger, quiet)]
    assert losses[0] == losses[1]
    answers = [
        [(row.answer, row.probabilities) for row in each.answers("enc/head")] for each in (project.ledger, quiet)
    ]
    assert answers[0] == answers[1]
    assert project.ledger.results().choice == quiet.results().choice
    assert _tuned(project.folder).name == _tuned(done[0]).name
    assert not (_tuned(project.folder) / "checkpoints").exists()


def test_a_run_killed_while_it_predicts_loses_one_batch_at_most(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from germinal.ledger import Ledger
    from germinal.project.steps import predict_fitted

    edit(copy, "seed = 0", "seed = 1")
    monkeypatch.setattr(predict_fitted, "BATCH", 5)
    store, stored = Ledger.store_predictions, []

    def stop_after_two(self: Ledger, predictions: Any, run_id: int) -> None:
        kept = list(predictions)
        store(self, kept, run_id)
        stored.extend(kept)
        if len(stored) >= 10:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Ledger, "store_predictions", stop_after_two)
        with pytest.raises(KeyboardInterrupt):
            Project(copy).run()
    assert all(prediction.seconds > 0 for prediction in stored)
    summary = Project(copy).run()
    assert summary.rows_reused == 10
    assert summary.rows_predicted in (DEV - 10, DEV + TEST - 10)  # test is answered only where the head wins


def test_an_encoder_without_a_head_is_refused_before_anything_runs(tmp_path: Path, encoder: Path) -> None:
    text = toml(encoder)
    project = write_project(tmp_path / "project", text.replace(HEAD.format(encoder=encoder), ""))
    with pytest.raises(UnsupportedError, match=r"it reads and does not write.*under \[adapt.head\]"):
        project.plan()
    with pytest.raises(UnsupportedError, match="cannot be prompted"):
        project.run()
    assert project.ledger.measured("fit") == []


def test_a_decoder_with_a_head_is_refused_before_anything_runs(tmp_path: Path, tiny_model: Path) -> None:
    project = write_project(tmp_path / "project", toml(tiny_model))
    with pytest.raises(UnsupportedError, match="is not an encoder, and only encoders get a classification head"):
        project.run()
    assert project.ledger.measured("fit") == []


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('models = ["{encoder}"]\nepochs', 'models = ["minilm"]\nepochs', "'minilm' is not among select.models"),
        ('models = ["{encoder}"]\nepochs', "epochs", "the key 'models' is missing from [adapt.head]"),
        ("epochs = 12", "epoch = 6", "there is no key 'epoch' in [adapt.head]. Did you mean 'epochs'?"),
        ("learning_rate = 0.005", "learning_rate = 0", "adapt.head.learning_rate"),
        ("epochs = 12", "rank = 6", "there is no key 'rank' in [adapt.head]"),
    ],
)
def test_mistakes_in_the_file_are_said_at_their_line(
    tmp_path: Path, encoder: Path, old: str, new: str, message: str
) -> None:
    text = toml(encoder)
    old = old.replace("{encoder}", str(encoder))
    assert old in text
    with pytest.raises(ProjectFileError) as raised:
        write_project(tmp_path / "project", text.replace(old, new))
    assert message in str(raised.value)
    assert "germinal.toml:" in str(raised.value)


def with_long_row(folder: Path) -> None:
    """Make one row of dev longer than the encoder reads: the words that tell its label stand at its end."""
    rows = [review(number) for number in range(ROWS)]
    rows[0] = ("film " * 100 + rows[0][0], rows[0][1])
    write_rows(folder / "reviews.csv", rows)


def test_an_override_that_leaves_a_head_without_its_model_is_said(copy: Path) -> None:
    with pytest.raises(ProjectFileError, match=r"is not among select.models. Name it there too, or leave it out here"):
        Project(copy).plan(overrides=["select.models=[]"])
    plan = Project(copy).plan(overrides=["select.models=[]", "adapt.head.models=[]"])
    assert [trial.id for trial in plan.trials] == ["majority"]


def test_an_input_that_is_too_long_is_said(tmp_path: Path, encoder: Path) -> None:
    project = write_project(tmp_path / "project", toml(encoder).replace("epochs = 12", "epochs = 1"))
    with_long_row(project.folder)
    with pytest.raises(ContextWindowError, match=r"of \d+: has \d+ tokens, and enc reads 80.*overflow") as raised:
        project.run()
    assert (raised.value.where or "").startswith("input ")


@pytest.mark.parametrize("side", ["right", "left"])
def test_an_input_that_is_too_long_is_cut_where_the_file_says(tmp_path: Path, encoder: Path, side: str) -> None:
    cut = f'epochs = 1\noverflow = "truncate_input"\ntruncate_side = "{side}"'
    project = write_project(tmp_path / "project", toml(encoder).replace("epochs = 12", cut))
    with_long_row(project.folder)
    project.run()
    predictor = project.predictor("enc/head")
    assert isinstance(predictor, ClassifierPredictor)
    words = ("film " * 100 + review(0)[0]).split()
    (read,) = predictor.read([" ".join(words)])
    assert len(read.ids) == 80
    assert read.truncated_tokens > 20
    assert " ".join(words).startswith(read.text) if side == "right" else " ".join(words).endswith(read.text)
    (answer,), (expected,) = predictor.predict([" ".join(words)]), predictor.predict([read.text])
    assert answer == expected
    splits = {split: project.ledger.answers("enc/head", split) for split in ("dev",)}
    lengths = [len(predictor.lm.tokenizer.encode(row.input)) for rows in splits.values() for row in rows]
    step = project.ledger.step(project.ledger.results().trial("enc/head").steps["predict/dev"])
    assert step.values["tokens"]["prompt"] == sum(min(length, 80) for length in lengths)
    assert (step.values["truncated_tokens"] > 0) == (max(lengths) > 80)


def test_a_damaged_predictor_is_said(copy: Path) -> None:
    model = _tuned(copy) / "model" / "model.safetensors"
    from safetensors.torch import load_file, save_file

    tensors = load_file(model)
    tensors["classifier.bias"] += 1
    save_file(tensors, model, metadata={"format": "pt"})
    with pytest.raises(GerminalError, match="were changed since"):
        Project(copy).winner()
    os.truncate(model, 1000)
    with pytest.raises(GerminalError):
        Project(copy).winner()
