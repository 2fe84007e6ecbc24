"""What runs again after a change, and what does not: counted in steps and rows."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_project import TOML, review, write_rows

from germinal.cli.main import main
from germinal.data import read_dataset, split
from germinal.errors import (
    ContextWindowError,
    DataError,
    GerminalError,
    LedgerError,
    ModelNotFoundError,
    ProjectBusyError,
    SettingError,
    UnsupportedError,
)
from germinal.project import Project
from germinal.project.board.comparison import compare
from germinal.project.run.lock import project_lock
from germinal.project.run.runner import RunSummary

ROWS = 140  # 24 dev, 16 test, 100 train, of which 64 calibrate
DEV, TEST, CALIBRATE = 24, 16, 64
BASELINES_ALONE = (  # a project that runs in no time
    'models = ["',
    'models = [] # ["',
    "[adapt.lora]\nrank = 2\nmicro_batch_size = 4\nlearning_rate = 0.01\n",
    "",
)
EVERY_STEP = Counter(data=1, fit=2, model=1, examples=2, tune=1, calibrate=4, predict=8, measure=13, choose=1)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> tuple[Path, RunSummary]:
    """A project that was run to its end, to be copied."""
    folder = tmp_path_factory.mktemp("done") / "project"
    folder.mkdir()
    (folder / "germinal.toml").write_text(TOML.format(model=tiny_model), encoding="utf-8")
    write_rows(folder / "reviews.csv", [review(number) for number in range(ROWS)])
    project = Project(folder)
    summary = project.run()
    project.ledger.close()
    return folder, summary


@pytest.fixture
def copy(done: tuple[Path, RunSummary], tmp_path: Path) -> Path:
    """A copy of that project, ledger and artifacts included."""
    return Path(shutil.copytree(done[0], tmp_path / "copy"))


def edit(folder: Path, *replacements: str) -> None:
    text = (folder / "germinal.toml").read_text(encoding="utf-8")
    for old, new in zip(replacements[::2], replacements[1::2], strict=True):
        assert old in text, old
        text = text.replace(old, new)
    (folder / "germinal.toml").write_text(text, encoding="utf-8")


def main_exits(arguments: list[str]) -> None:
    """Run a command, which ends well."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert not ended.value.code


def expect(folder: Path, steps: dict[str, int], predicted: int, **arguments: object) -> RunSummary:
    """Run, and see that just these steps ran, that the plan announced them, and that a second run does nothing."""
    project = Project(folder)
    before = {(step.kind, step.resolved_key) for step in project.plan(**arguments).steps if step.state == "cached"}
    summary = project.run(**arguments)  # type: ignore[arg-type]
    assert (dict(summary.steps_run), summary.rows_predicted) == (steps, predicted)
    after = {(step.kind, step.resolved_key) for step in project.plan(**arguments).steps}
    assert before <= after  # what the plan called cached is what the run stands on
    again = project.run(**arguments)  # type: ignore[arg-type]
    assert (again.steps_run.total(), again.rows_predicted) == (0, 0)
    return summary


def test_a_first_run_does_everything_once(done: tuple[Path, RunSummary]) -> None:
    _, summary = done
    assert summary.steps_run == EVERY_STEP
    # Two baselines on dev and test; zero-shot, two choices of shots and the tuned model on dev and for calibration. The
    # winner is a baseline here, so no more on test.
    assert summary.rows_predicted == 2 * (DEV + TEST) + 4 * (DEV + CALIBRATE)
    assert summary.rows_reused == 0


def test_touching_nothing_runs_nothing(copy: Path) -> None:
    for name in ("germinal.toml", "reviews.csv"):
        (copy / name).touch()
    summary = expect(copy, {}, 0)
    assert summary.steps_cached == EVERY_STEP


def test_another_name_for_the_data_file_runs_nothing(copy: Path) -> None:
    (copy / "reviews.csv").rename(copy / "films.csv")
    edit(copy, "reviews.csv", "films.csv")
    expect(copy, {}, 0)


def test_another_place_of_the_model_runs_nothing(copy: Path, tiny_model: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_model, tmp_path / "elsewhere")
    edit(copy, str(tiny_model), str(tmp_path / "elsewhere"))
    expect(copy, {}, 0)
    assert "elsewhere/zero-shot/generate" in [trial.id for trial in Project(copy).ledger.results().trials]


def test_a_new_metric_only_measures(copy: Path) -> None:
    edit(copy, '"f1_macro"]', '"f1_macro", "balanced_accuracy"]')
    expect(copy, {"measure": 13}, 0)  # answers and work are as before, so the choice stands


def test_another_deciding_metric_measures_and_chooses(copy: Path) -> None:
    edit(copy, '["accuracy", "f1_macro"]', '["f1_macro", "accuracy"]')
    expect(copy, {"measure": 13, "choose": 1}, 0)


def test_another_criterion_runs_nothing_and_is_judged(copy: Path) -> None:
    edit(copy, "{ accuracy = 0.5 }", "{ f1_macro = 1.0, accuracy = 0.1 }")
    expect(copy, {}, 0)
    verdicts = {item.metric: item.verdict for item in Project(copy).ledger.results().success}
    assert set(verdicts) == {"f1_macro", "accuracy"}
    assert verdicts["accuracy"] == "reached"


def test_another_instruction_asks_the_model_again_and_leaves_baselines_alone(copy: Path) -> None:
    edit(copy, '"Classify:"', '"Judge:"')
    steps = {"tune": 1, "calibrate": 4, "predict": 4, "measure": 9, "choose": 1}
    expect(copy, steps, 4 * (DEV + CALIBRATE))


def test_another_word_for_a_label_asks_the_model_again(copy: Path) -> None:
    edit(copy, 'pos = "Positive"', 'pos = "Good"')
    steps = {"tune": 1, "calibrate": 4, "predict": 4, "measure": 9, "choose": 1}
    expect(copy, steps, 4 * (DEV + CALIBRATE))


def test_longer_answers_generate_again_and_score_nothing(copy: Path) -> None:
    edit(copy, "max_new_tokens = 3", "max_new_tokens = 4")
    summary = expect(copy, {"predict": 4, "measure": 3, "choose": 1}, 4 * DEV)
    assert summary.rows_reused == 0


def test_a_rule_less_keeps_the_others(copy: Path) -> None:
    edit(copy, '["generate", "likelihood", "calibrated"]', '["likelihood"]')
    summary = expect(copy, {"predict": 4, "choose": 1}, 0)
    assert summary.rows_reused == 4 * DEV


def test_more_shots_are_new_trials_beside_the_old(copy: Path) -> None:
    edit(copy, "shots = [0, 2]", "shots = [0, 2, 3]")
    steps = {"examples": 2, "calibrate": 2, "predict": 2, "measure": 3, "choose": 1}
    expect(copy, steps, 2 * (DEV + CALIBRATE))


def test_another_choice_of_examples_is_one_more_replicate(copy: Path) -> None:
    edit(copy, "shot_seeds = [0, 1]", "shot_seeds = [0, 1, 2]")
    expect(copy, {"examples": 1, "calibrate": 1, "predict": 1, "measure": 3, "choose": 1}, DEV + CALIBRATE)


def test_another_rank_tunes_again(copy: Path) -> None:
    edit(copy, "rank = 2", "rank = 3")
    expect(copy, {"tune": 1, "calibrate": 1, "predict": 1, "measure": 3, "choose": 1}, DEV + CALIBRATE)


def test_batch_size_counts_for_tuning(copy: Path) -> None:
    edit(copy, "micro_batch_size = 4", "micro_batch_size = 5")
    expect(copy, {"tune": 1, "calibrate": 1, "predict": 1, "measure": 3, "choose": 1}, DEV + CALIBRATE)


def test_content_free_calibration_asks_three_inputs_a_prompt(copy: Path) -> None:
    edit(copy, "shots = [0, 2]", 'calibration = "content-free"\nshots = [0, 2]')
    expect(copy, {"calibrate": 4, "measure": 3, "choose": 1}, 4 * 3)


def test_one_row_more_costs_one_prediction_a_prompt(copy: Path) -> None:
    number = _row_that_lands("train", "calibration", "examples")
    write_rows(copy / "reviews.csv", [review(n) for n in range(ROWS)] + [review(number)])
    # The training split changed: baselines and adapter learn again. Zero-shot and few-shot prompts are as they were.
    steps = {"data": 1, "fit": 2, "tune": 1, "examples": 2, "calibrate": 1, "predict": 5, "measure": 7, "choose": 1}
    summary = expect(copy, steps, 2 * (DEV + TEST) + DEV + CALIBRATE)
    assert summary.rows_reused == 0


def test_one_row_more_in_dev_costs_one_prediction_a_prompt(copy: Path) -> None:
    number = _row_that_lands("dev")
    write_rows(copy / "reviews.csv", [review(n) for n in range(ROWS)] + [review(number)])
    summary = Project(copy).run()
    # One row went from dev to train in its place, so that baselines and adapter learn again; the prompted trials answer
    # one row each, and none that they answered before.
    untuned = 3
    learned = 2 * (DEV + TEST) + DEV + CALIBRATE
    assert (
        learned + untuned <= summary.rows_predicted <= learned + untuned + 3 * 1
    )  # a calibration row may have changed
    assert summary.rows_reused >= untuned * (DEV - 1)


def test_an_artifact_that_somebody_removed_is_made_again_and_nothing_after_it(copy: Path) -> None:
    (tuned,) = (copy / ".germinal" / "artifacts").glob("tune-*")
    shutil.rmtree(tuned)
    expect(copy, {"tune": 1}, 0)


def test_a_limit_takes_the_first_rows_and_predicts_none_again(copy: Path) -> None:
    edit(copy, "seed = 0", "seed = 0 ")
    summary = expect(copy, {"data": 1, "predict": 8, "measure": 13, "choose": 1}, 0, limit=6)
    assert summary.rows_reused == 4 * 6 + 2 * 12
    results = Project(copy).ledger.results(summary.run_id)
    assert (results.splits["dev"].rows, results.splits["test"].rows, results.splits["train"].rows) == (6, 6, 100)
    assert results.run.limit == 6


def test_a_limited_run_never_takes_the_place_of_a_whole_one(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    project = Project(copy)
    whole, limited = project.leaderboard(), project.run(limit=4)
    (copy / "new.csv").write_text("text\ngood film\n", encoding="utf-8")
    board = project.leaderboard()
    assert (board.run.id, board.run.limit, board.splits["dev"].rows) == (whole.run.id, None, DEV)
    assert f"Later: {limited.run_id} (--limit 4)." in board.run.warnings[-1]
    assert project.leaderboard(limited.run_id).splits["dev"].rows == 4  # it is shown to who asks for it
    assert compare(project.ledger, "majority", "tfidf").n == DEV
    assert {step.state for step in project.plan().steps} == {"cached"}
    assert (project.why("tfidf").since, project.why("tfidf").limit) == (whole.run.id, None)
    main_exits(["predict", str(copy), str(copy / "new.csv")])
    assert re.search(rf"the winner of run {whole.run.id}, answers", capsys.readouterr().err)


def test_what_only_a_limited_run_found_is_called_a_trial_run(
    make_project: Callable[..., Project], capsys: pytest.CaptureFixture[str]
) -> None:
    project = make_project("success = { accuracy = 0.5 }", "success = { accuracy = 0.0 }", *BASELINES_ALONE)
    project.run(limit=4)
    (project.folder / "new.csv").write_text("text\ngood film\n", encoding="utf-8")
    assert project.leaderboard().run.limit == 4
    for command, said in (
        (["leaderboard"], "in a trial run: accuracy of at least"),
        (["leaderboard"], "Only the first 4 rows of dev and of test were answered"),
        (["compare", "majority", "tfidf", "-p"], "in run 1, a trial run (--limit 4)"),
        (["why", "tfidf", "-p"], "since run 1, a trial run (--limit 4)"),
        (["predict"], "of run 1, a trial run on the first 4 rows"),
    ):
        inputs = [str(project.folder / "new.csv")] if command == ["predict"] else []
        main_exits([*command, str(project.folder), *inputs])
        written = capsys.readouterr()
        assert said in " ".join((written.out + written.err).split()), command


def test_a_limited_run_leaves_the_report_of_a_whole_one(make_project: Callable[..., Project]) -> None:
    folder = make_project(*BASELINES_ALONE).folder
    main_exits(["run", str(folder), "--quiet"])
    whole = (folder / "report.html").read_bytes()
    main_exits(["run", str(folder), "--quiet", "--limit", "4"])
    assert (folder / "report.html").read_bytes() == whole
    assert (folder / "trial-run.html").is_file()


def test_an_override_is_as_good_as_an_edit(copy: Path) -> None:
    expect(
        copy,
        {"tune": 1, "calibrate": 1, "predict": 1, "measure": 3, "choose": 1},
        DEV + CALIBRATE,
        overrides=["adapt.lora.rank=3"],
    )
    assert Project(copy).ledger.results().run.overrides == ["adapt.lora.rank=3"]


def _row_that_lands(part: str, *not_in: str) -> int:
    """The number of a review that would land in a split, and not among the rows that calibrate or are shown."""
    import tempfile

    for number in range(ROWS, ROWS + 400):
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "rows.csv"
            write_rows(file, [review(n) for n in range(ROWS)] + [review(number)])
            splits = split(read_dataset(file, input="text", target="label").rows, dev=DEV, test=TEST)
        text = review(number)[0]
        place = next((i for i, row in enumerate(getattr(splits, part)) if row.input == text), None)
        if place is None or ("calibration" in not_in and place < CALIBRATE):
            continue
        if "examples" in not_in and any(text == shown.input for shown in _examples(splits.train)):
            continue
        return number
    raise AssertionError("no such row")


def _examples(train: tuple[object, ...]) -> list[object]:
    from germinal.text.examples import choose_examples

    candidates = [(row.key, row.input, row.target) for row in train]  # type: ignore[attr-defined]
    return [example for seed in (0, 1) for example in choose_examples(candidates, 2, seed, ["neg", "pos"])]


def test_looks_at_test_are_counted_when_something_is_new(copy: Path) -> None:
    assert Project(copy).ledger.test_looks() == 1
    Project(copy).run()
    assert Project(copy).ledger.test_looks() == 1
    edit(copy, '"f1_macro"]', '"f1_macro", "balanced_accuracy"]')
    Project(copy).run()
    assert Project(copy).ledger.test_looks() == 2


def test_why_names_the_part_that_changed(copy: Path) -> None:
    edit(copy, '"Classify:"', '"Judge:"', "rank = 2", "rank = 3")
    trial = next(trial.id for trial in Project(copy).plan().trials if trial.id.endswith("/zero-shot/calibrated"))
    why = Project(copy).why(trial)
    steps = {step.role: step for step in why.steps}
    assert steps["data"].state == "cached"
    (change,) = steps["predict/dev"].changed
    assert (change.part, change.before, change.now) == ("settings.prompt.instruction", "Classify:", "Judge:")
    assert steps["measure/dev"].state == "depends"
    with pytest.raises(LedgerError, match="Did you mean 'majority'"):
        Project(copy).why("majorty")


def test_why_says_what_runs_though_nothing_changed(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tuned,) = (copy / ".germinal" / "artifacts").glob("tune-*")
    shutil.rmtree(tuned)
    trial = next(trial.id for trial in Project(copy).plan().trials if "lora" in trial.id)
    lacking = {step.role: step.lacking for step in Project(copy).why(trial).steps if step.lacking}
    assert lacking == {"tune": "its files are gone, or were changed"}
    main_exits(["why", trial, "-p", str(copy), "--no-parts"])
    assert "Nothing changed since run 1. All the same, 1 step will run." in capsys.readouterr().out


def test_why_tells_what_differs_from_the_last_run_though_an_earlier_one_had_it(copy: Path) -> None:
    edit(copy, '"f1_macro"]', '"f1_macro", "balanced_accuracy"]')
    Project(copy).run()
    edit(copy, '"f1_macro", "balanced_accuracy"]', '"f1_macro"]')
    measured = next(step for step in Project(copy).why("tfidf").steps if step.role == "measure/dev")
    assert (measured.state, [part.part for part in measured.changed]) == ("cached", ["settings.metrics"])


def test_why_of_a_trial_that_never_ran_says_so(
    make_project: Callable[..., Project], capsys: pytest.CaptureFixture[str]
) -> None:
    project = make_project()
    assert project.why("tfidf").since is None
    main_exits(["why", "tfidf", "-p", str(project.folder)])
    assert "No run has had this trial yet." in capsys.readouterr().out


def test_the_plan_says_what_is_cached_to_run_and_depends(copy: Path, make_project: Callable[..., Project]) -> None:
    states = Counter(step.state for step in Project(copy).plan().steps)
    assert states == Counter(cached=EVERY_STEP.total())
    plan = Project(copy).plan()
    assert {step.name for step in plan.steps if "majority" in step.trials} >= {"fit majority"}
    assert plan.detectable_difference is None or 0 < plan.detectable_difference < 1
    fresh = make_project().plan()
    states = {step.kind: step.state for step in fresh.steps if step.kind != "predict"}
    assert (states["data"], states["model"], states["fit"], states["choose"]) == ("run", "run", "depends", "depends")
    assert len(fresh.trials) == 14
    assert len(fresh.candidates) == 11


def test_the_winner_answers_and_is_saved(copy: Path, tmp_path: Path) -> None:
    from germinal import load_predictor

    project = Project(copy)
    winner = project.winner()
    answers = winner.predict(["good great film 1", "bad poor film 2"])
    winner.save(tmp_path / "shipped")
    assert load_predictor(tmp_path / "shipped").predict(["good great film 1", "bad poor film 2"]) == answers


@pytest.mark.parametrize(
    ("rules", "success", "verdict"),
    [('["likelihood"]', "{ accuracy = 0.0 }", "reached"), ('["generate"]', "{ accuracy = 1.0 }", "missed")],
)
def test_a_language_model_that_wins_is_measured_on_test_clocked_and_shipped(
    make_project: Callable[..., Project], tmp_path: Path, rules: str, success: str, verdict: str
) -> None:
    project = make_project(
        'baselines = ["majority", "tfidf"]',
        "baselines = []",
        '["generate", "likelihood", "calibrated"]',
        rules,
        "success = { accuracy = 0.5 }",
        f"success = {success}\nlimits = {{ latency_ms = 60000, memory_gb = 0.001 }}",
    )
    summary = project.run()
    assert summary.steps_run["clock"] == 1
    results = project.ledger.results()
    assert results.choice is not None
    winner = results.candidate(results.choice.winner)
    assert winner.kind == "model"
    assert winner.figures["test"]["accuracy"].n == TEST
    assert [item.verdict for item in results.success] == [verdict]
    assert {item.name: item.kept for item in results.limits} == {"latency_ms": True, "memory_gb": False}
    assert {comparison.role for comparison in results.comparisons} == {"zero-shot", "best"}
    best = max(trial.figures["dev"]["accuracy"].value for trial in winner.trials)
    assert results.trial(results.choice.winner_trial).figures["dev"]["accuracy"].value == best
    texts = [row.input for row in project.ledger.answers(results.choice.winner_trial, "test")]
    assert len(texts) == TEST
    shipped = project.winner()
    shipped.save(tmp_path / "shipped")
    assert [answer.label for answer in shipped.predict(texts)] == [
        row.answer for row in project.ledger.answers(results.choice.winner_trial, "test")
    ]
    assert {step.state for step in project.plan().steps} == {"cached"}
    assert project.run().steps_run.total() == 0


def test_grouped_rows_and_a_metric_that_needs_probabilities(make_project: Callable[..., Project]) -> None:
    project = make_project(
        '["accuracy", "f1_macro"]', '["log_loss", "accuracy"]', 'target = "label"', 'target = "label"\ngroup = "film"'
    )
    lines = ["text,label,film"] + [",".join((*review(number), f"film {number // 3}")) for number in range(90)]
    (project.folder / "reviews.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    project = Project(project.folder)
    project.run()
    results = project.ledger.results()
    assert results.primary == "log_loss"
    generating = [candidate for candidate in results.candidates if candidate.rule == "generate"]
    assert all(set(candidate.figures["dev"]) == {"accuracy"} for candidate in generating)
    compared = {comparison.first for comparison in results.comparisons}
    assert not compared & {candidate.id for candidate in generating}
    scored = [candidate for candidate in results.candidates if "log_loss" in candidate.figures["dev"]]
    best = min(scored, key=lambda candidate: candidate.figures["dev"]["log_loss"].value)
    assert results.choice is not None
    assert results.choice.best == best.id
    assert best.figures["dev"]["log_loss"].method == "jackknife over 8 groups"
    films = {row.group for row in project.ledger.answers(best.trials[0].id)}
    assert len(films) < results.splits["dev"].rows


def test_a_failed_row_counts_as_wrong_is_not_cached_and_is_tried_again(
    make_project: Callable[..., Project], monkeypatch: pytest.MonkeyPatch
) -> None:
    from germinal.predictors.answers import Output
    from germinal.predictors.language_model_predictor import LanguageModelPredictor

    project = make_project("rank = 2", "rank = 2\nmax_examples = 8", "shots = [0, 2]", "shots = [0]")
    whole = LanguageModelPredictor.outputs

    def one_fails(self: LanguageModelPredictor, inputs: list[str], *args: object, **kwargs: object) -> object:
        for index, output in whole(self, inputs, *args, **kwargs):  # type: ignore[arg-type]
            yield index, Output(error="out of luck") if index == 3 and len(inputs) == DEV else output

    with monkeypatch.context() as patched:
        patched.setattr(LanguageModelPredictor, "outputs", one_fails)
        project.run()
    trial = next(trial for trial in project.ledger.results().trials if trial.id.endswith("/zero-shot/likelihood"))
    failed = [row for row in project.ledger.answers(trial.id) if row.error]
    assert [(row.position, row.answer, row.correct, row.error) for row in failed] == [(3, None, False, "out of luck")]
    assert trial.figures["dev"]["accuracy"].n == DEV
    again = project.run()
    assert (again.rows_predicted, again.rows_reused) == (2, 2 * (DEV - 1))
    assert not any(row.error for row in project.ledger.answers(trial.id))
    assert project.run().steps_run.total() == 0


@pytest.mark.parametrize("rule", ["generate", "likelihood", "calibrated"])
@pytest.mark.parametrize("part", ["zero-shot/{}", "2-shot/{}/seed-1", "lora-r2/zero-shot/{}"])
def test_every_trial_can_be_shipped_and_answers_as_it_was_measured(copy: Path, rule: str, part: str) -> None:
    project = Project(copy)
    (trial,) = (
        trial.id for trial in project.ledger.results().trials if trial.id.split("/", 1)[-1] == part.format(rule)
    )
    measured = project.ledger.answers(trial)[:6]
    answers = project.predictor(trial).predict([row.input for row in measured])
    assert [answer.label for answer in answers] == [row.answer for row in measured]
    for answer, row in zip(answers, measured, strict=True):
        assert answer.probabilities == (
            None if row.probabilities is None else pytest.approx(row.probabilities, abs=1e-4)
        )


def test_results_hold_together(copy: Path) -> None:
    ledger = Project(copy).ledger
    results = ledger.results()
    for trial in results.trials:
        answers = ledger.answers(trial.id)
        assert len(answers) == DEV
        share = sum(row.correct for row in answers) / DEV
        assert trial.figures["dev"]["accuracy"].value == pytest.approx(share)
        assert trial.cost.seconds > 0
        assert trial.cost.peak_memory_bytes is not None
    few = next(candidate for candidate in results.candidates if candidate.shots == 2)
    values = [trial.figures["dev"]["accuracy"].value for trial in few.trials]
    assert few.figures["dev"]["accuracy"].value == pytest.approx(sum(values) / 2)
    assert few.spread["accuracy"].n == 2
    roles = Counter(comparison.role for comparison in results.comparisons)
    assert roles == Counter({"baseline": 9, "zero-shot": 8, "best": 10})
    assert all(comparison.p_adjusted is not None for comparison in results.comparisons)
    prompts = ledger.prompts(few.trials[0].id)
    assert prompts[0].text.count("Classify:") == 3
    assert prompts[0].text.endswith("Sentiment:")
    tuned = next(trial for trial in results.trials if "lora" in trial.id)
    assert len(ledger.history(tuned.id)) > 5


def test_a_second_run_at_once_is_refused(copy: Path) -> None:
    with project_lock(copy / ".germinal"), pytest.raises(ProjectBusyError, match="another process"):
        Project(copy).run()
    expect(copy, {}, 0)


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        (("reviews.csv", "none.csv"), DataError, "no such data file"),
        (('target = "label"', 'target = "lable"'), DataError, "Did you mean 'label'"),
        (('neg = "Negative"', 'bad = "Negative"'), SettingError, "there is no label 'bad'"),
        (("dev = 24", "dev = 2400"), DataError, "leave some to train on"),
        (('models = ["', 'models = ["/nowhere'), ModelNotFoundError, "nowhere"),
        (("max_new_tokens = 3", "max_new_tokens = 500"), ContextWindowError, "context window"),
        (('data = "reviews.csv"', 'task = "chat"\ndata = "reviews.csv"'), UnsupportedError, "chat"),
    ],
)
def test_bad_projects_have_errors_of_their_own(
    make_project: Callable[..., Project], change: tuple[str, str], error: type[GerminalError], said: str
) -> None:
    with pytest.raises(error, match=said):
        make_project(*change).run()
    runs = make_project(*change).ledger.runs()
    assert all(run.status == "failed" for run in runs)


SMALL = (
    'baselines = ["majority", "tfidf"]',
    "baselines = []",
    '["generate", "likelihood", "calibrated"]',
    '["generate"]',
    "shots = [0, 2]",
    "shots = [0]",
    "[adapt.lora]\nrank = 2\nmicro_batch_size = 4\nlearning_rate = 0.01\n",
    "",
)


def test_a_metric_that_no_trial_has_cannot_choose(make_project: Callable[..., Project]) -> None:
    only_log_loss = ('["accuracy", "f1_macro"]', '["log_loss"]', "success = { accuracy = 0.5 }\n", "")
    with pytest.raises(SettingError, match="no trial gives the probabilities that 'log_loss' needs"):
        make_project(*SMALL, *only_log_loss).run()


def test_sampled_answers_follow_the_seed_of_the_project(make_project: Callable[..., Project]) -> None:
    def texts(folder: str, seed: int) -> list[str | None]:
        sampled = ("max_new_tokens = 3", "max_new_tokens = 3\ntemperature = 1.0", "seed = 0", f"seed = {seed}")
        project = make_project(*SMALL, *sampled, folder=folder)
        assert project.run().rows_predicted == DEV + TEST
        (trial,) = project.ledger.results().trials
        return [row.text for row in project.ledger.answers(trial.id)]

    first = texts("first", 1)
    assert texts("same", 1) == first
    assert texts("other", 2) != first


def test_an_empty_data_file_is_an_error(make_project: Callable[..., Project]) -> None:
    project = make_project()
    (project.folder / "reviews.csv").write_text("text,label\n")
    with pytest.raises(DataError):
        project.run()


def test_a_label_that_training_lacks_is_an_error(make_project: Callable[..., Project]) -> None:
    project = make_project()
    rows = [review(number) for number in range(90)]
    dev = split(read_dataset(project.folder / "reviews.csv", input="text", target="label").rows, dev=24, test=16).dev
    odd = {dev[0].input}
    write_rows(project.folder / "reviews.csv", [(text, "odd" if text in odd else label) for text, label in rows])
    with pytest.raises(DataError, match="no row of the training split has the label 'odd'"):
        project.run()
