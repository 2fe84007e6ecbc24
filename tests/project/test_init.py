"""`germinal init` looks into the data, proposes a narrow scope, and writes a file that parses and runs."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from small_data import Table, reviews, write_csv

from germinal.data import split
from germinal.errors import DataError, ProjectFileError, UnsupportedError
from germinal.project import Project
from germinal.project.file.reader import read_project_file
from germinal.project.init.proposal import Proposal, propose
from germinal.project.init.writer import write_project


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    return lambda rows, name="reviews.csv": write_csv(tmp_path / name, rows)


def written(proposal: Proposal, folder: Path) -> dict[str, object]:
    return tomllib.loads(write_project(proposal, folder).read_text(encoding="utf-8"))


def test_file_parses_and_says_what_was_found(write: Callable[..., Path], tmp_path: Path) -> None:
    path = write_project(propose(write(reviews())), tmp_path)
    config = read_project_file(path)
    assert (config.scope.input, config.scope.target, config.scope.data) == ("text", "label", "reviews.csv")
    assert config.scope.labels == {"neg": "Negative", "pos": "Positive"}
    assert (config.scope.split.dev, config.scope.split.test) == (40, 40)
    assert config.scope.metrics == ["accuracy", "f1_macro"]
    assert config.scope.success == {"accuracy": 0.8}
    assert config.adapt.prompt.answer == "Sentiment:"
    assert config.adapt.prompt.shots == [0, 2, 4]
    assert config.adapt.lora is None


def test_first_line_leads_editors_to_the_schema(write: Callable[..., Path], tmp_path: Path) -> None:
    path = write_project(propose(write(reviews())), tmp_path)
    first = path.read_text().splitlines()[0]
    schema = json.loads((tmp_path / first.removeprefix("#:schema ")).read_text())
    assert {"scope", "select", "adapt", "apply"} <= set(schema["properties"])


def test_written_project_runs(write: Callable[..., Path], tmp_path: Path) -> None:
    project = Project(write_project(propose(write(reviews()), models=()), tmp_path))
    project.run()
    board = project.leaderboard()
    assert {row.id for row in board.rows} == {"majority", "tfidf"}
    assert board.splits["dev"].rows == 40


def test_data_elsewhere_is_named_from_the_projects_folder(write: Callable[..., Path], tmp_path: Path) -> None:
    path = write_project(propose(write(reviews())), tmp_path / "project")
    assert read_project_file(path).scope.data == "../reviews.csv"
    assert (path.parent / "../reviews.csv").exists()


def test_never_overwrites_without_being_told(write: Callable[..., Path], tmp_path: Path) -> None:
    proposal = propose(write(reviews()))
    (tmp_path / "germinal.toml").write_text("mine")
    with pytest.raises(ProjectFileError, match="already"):
        write_project(proposal, tmp_path)
    assert (tmp_path / "germinal.toml").read_text() == "mine"
    write_project(proposal, tmp_path, overwrite=True)
    assert read_project_file(tmp_path).scope.input == "text"


def test_columns_are_told_by_name_and_contents(write: Callable[..., Path]) -> None:
    rows = [
        {
            "id": index,
            "stars": index % 5,
            "author": f"a{index % 40}",
            "review": f"words and words {index}",
            "sentiment": "yn"[index % 2],
        }
        for index in range(200)
    ]
    proposal = propose(write(rows))
    assert (proposal.input, proposal.target, proposal.group) == ("review", "sentiment", "author")
    assert proposal.words.labels == {"y": "Yes", "n": "No"}
    assert proposal.words.instruction == "Classify this review:"
    assert [question.key for question in proposal.questions] == ["use_case"]


def test_what_cannot_be_told_is_asked(write: Callable[..., Path]) -> None:
    rows = [
        {"a": f"some long words {index}", "b": f"other long words {index}", "c": index % 3, "d": index % 4}
        for index in range(100)
    ]
    path = write(rows)
    asked = {question.key: question for question in propose(path).questions}
    assert set(asked) == {"input", "target", "use_case"}
    assert set(asked["input"].options) == {"a", "b"}
    assert set(asked["target"].options) == {"c", "d"}
    answered = propose(path, input="b", target="d", use_case="Tell d from b")
    assert answered.questions == ()
    assert (answered.input, answered.target, answered.words.use_case) == ("b", "d", "Tell d from b")


def test_uneven_labels_are_judged_by_macro_f1(write: Callable[..., Path]) -> None:
    proposal = propose(write(reviews(label=lambda index: "spam" if index % 10 == 0 else "ham")))
    assert proposal.words.metrics[0] == "f1_macro"
    assert list(proposal.words.success) == ["f1_macro"]
    assert 0.5 < proposal.words.success["f1_macro"] < 1


def test_duplicates_are_dropped_and_said(write: Callable[..., Path], tmp_path: Path) -> None:
    rows = reviews()
    path = write_project(propose(write([*rows, *rows[:3]])), tmp_path)
    assert read_project_file(path).scope.duplicates == "drop"
    assert "3 rows repeat another one" in path.read_text()


@pytest.mark.parametrize("label", ['quo"ted', "new\nline", "ünï", "a = 1 # no", "\\", "\x7f", "[x]", "two words"])
def test_any_label_makes_a_valid_file(write: Callable[..., Path], tmp_path: Path, label: str) -> None:
    rows = reviews(label=lambda index: (label, "other")[index % 2])
    values = written(propose(write(rows), use_case=f"Find {label}"), tmp_path)
    assert values["scope"]["use_case"] == f"Find {label}"  # type: ignore[index]


def test_held_out_rows_are_bounded(write: Callable[..., Path]) -> None:
    small, large = propose(write(reviews(60), "small.csv")), propose(write(reviews(4000), "large.csv"))
    assert (small.dev, small.test) == (12, 12)
    assert (large.dev, large.test) == (300, 300)
    assert large.detectable is not None
    assert 0.03 < large.detectable < 0.15


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (reviews(20), "too few"),
        ([{"text": f"a {index}", "label": f"l{index}"} for index in range(100)], "right answers"),
        ([{"label": "ab"[index % 2]} for index in range(100)], "holds texts"),
        (
            [*reviews(100), *({"text": f"rare {index}", "label": f"rare{index}"} for index in range(10))],
            "training split",
        ),
    ],
)
def test_unsuitable_data_is_refused(write: Callable[..., Path], rows: Table, message: str) -> None:
    path = write(rows)
    with pytest.raises(DataError, match=message):
        propose(path)


def test_unknown_columns_and_tasks_are_refused(write: Callable[..., Path]) -> None:
    path = write(reviews())
    with pytest.raises(DataError, match="no column 'txt'") as error:
        propose(path, input="txt")
    assert "text" in str(error.value)
    with pytest.raises(UnsupportedError, match="chat"):
        propose(path, task="chat")
    with pytest.raises(DataError):
        propose(path.with_name("missing.csv"))


def texts(rows: int = 100, **more: Callable[[int], object]) -> Table:
    """Articles with a summary of their own each, and more columns by name."""
    return [
        {
            "id": index,
            "article": f"The house number {index} in the old street was sold on Monday to a man from the town.",
            "summary": f"House {index} sold",
            **{name: of(index) for name, of in more.items()},
        }
        for index in range(rows)
    ]


def test_texts_for_answers_leave_the_task_to_ask(write: Callable[..., Path], tmp_path: Path) -> None:
    path = write(texts())
    proposal = propose(path)
    assert (proposal.task, proposal.input, proposal.target) == ("generation", "article", "summary")
    (question,) = proposal.questions
    assert question.key == "task"
    assert {"summarization", "translation"} <= set(question.options)
    chosen = propose(path, task="summarization")
    assert [question.key for question in chosen.questions] == ["use_case"]
    config = read_project_file(write_project(chosen, tmp_path))
    assert (config.scope.task, config.scope.use_case) == ("summarization", "Summarize an article")
    assert config.scope.metrics == ["rougeL", "rouge1", "rouge2"]
    assert config.select.baselines == ["lead", "nearest"]
    assert config.adapt.prompt.rules == ["generate"]
    assert config.generation == {"max_new_tokens": 16}


def test_written_project_of_texts_runs(write: Callable[..., Path], tmp_path: Path) -> None:
    project = Project(write_project(propose(write(texts()), task="translation", models=()), tmp_path))
    project.run()
    assert {row.id for row in project.leaderboard().rows} == {"copy", "nearest"}


def test_a_column_of_labels_by_name_goes_before_texts_and_other_repeats_do_not(write: Callable[..., Path]) -> None:
    rows = texts(category=lambda index: "ab"[index % 2])
    assert propose(write(rows)).task == "classification"
    rows = texts(weekday=lambda index: index % 7)
    assert propose(write(rows)).target == "summary"
    assert propose(write(rows), target="weekday").task == "classification"


def test_answers_with_empty_lines_get_another_separator(write: Callable[..., Path], tmp_path: Path) -> None:
    rows = texts(summary=lambda index: f"House {index}\n\nsold")
    config = read_project_file(write_project(propose(write(rows), task="generation"), tmp_path))
    assert config.adapt.prompt.separator == "\n###\n"


def test_a_column_that_repeats_is_taken_for_no_text_beside_longer_ones(write: Callable[..., Path]) -> None:
    rows = [
        {"french": f"La maison {index} est vendue.", "english": f"House {index} was sold.", "page": f"p{index // 2}"}
        for index in range(120)
    ]
    proposal = propose(write(rows), task="translation")
    assert (proposal.input, proposal.target) == ("french", "english")
    assert proposal.words.instruction == "Translate this text:"
    assert {question.key: question.options for question in proposal.questions}["target"] == ("english", "page")


def dates(rows: int = 120) -> Table:
    """Letters and the number in them, of which a tokenizer makes many tokens."""
    return [
        {"letter": f"About case {index}.", "number": f"{index * 7919:011d}-{index * 31:07d}"} for index in range(rows)
    ]


def test_room_for_answers_is_counted_by_the_models_tokenizer(
    write: Callable[..., Path], tmp_path: Path, tiny_model: Path
) -> None:
    """Three characters a token are too many for numbers: every answer was cut."""
    import transformers

    proposal = propose(write(dates()), task="extraction", target="number", models=(str(tiny_model),))
    config = read_project_file(write_project(proposal, tmp_path))
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_model)
    train = split(proposal.dataset.rows, dev=proposal.dev, test=proposal.test).train
    needed = max(len(tokenizer.encode(f" {row.target}", add_special_tokens=False)) for row in train) + 1
    assert needed > 16
    assert needed <= config.generation["max_new_tokens"] < needed + 16
    assert f"has {needed - 1} tokens, and one ends it" in (tmp_path / "germinal.toml").read_text()


def test_without_the_tokenizer_a_bound_is_taken_and_stated(
    write: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GERMINAL_CACHE", str(tmp_path / "cache"))
    proposal = propose(write(dates()), task="extraction", target="number", models=("hf:nobody/has-this",))
    path = write_project(proposal, tmp_path)
    assert read_project_file(path).generation["max_new_tokens"] == 32  # 19 bytes and an end, in steps of 16
    assert "hf:nobody/has-this is not on this machine: room is left for a token for every byte" in path.read_text()


def test_prompts_that_are_too_long_for_the_model_are_told(
    write: Callable[..., Path], tmp_path: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from germinal.cli.main import main

    rows = reviews()
    for row in rows[:50]:
        row["text"] = f"{row['text']} {'endless ' * 600}"
    with pytest.raises(SystemExit):
        main(["init", str(write(rows)), "-o", str(tmp_path), "--model", str(tiny_model), "--yes"])
    said = r"of the \d+ training rows make prompts that are too long for .*, which takes 512 tokens: the longest has \d"
    assert re.search(said, " ".join(capsys.readouterr().err.split()))
    text = (tmp_path / "germinal.toml").read_text()
    assert re.search(said, text)
    assert '# overflow = "truncate_input"' in text


def test_labels_spelt_in_several_ways_are_refused_and_not_written(write: Callable[..., Path]) -> None:
    rows = [{"text": f"film {number}", "label": ("True", "false", "true")[number % 3]} for number in range(90)]
    with pytest.raises(DataError, match="column 'label': labels 'True' and 'true' have the same word"):
        propose(write(rows))


def test_a_label_gets_no_word_that_another_label_has(write: Callable[..., Path], tmp_path: Path) -> None:
    rows = [{"text": f"film {number}", "label": ("y", "yes", "n")[number % 3]} for number in range(90)]
    assert read_project_file(write_project(propose(write(rows)), tmp_path)).scope.labels == {}


def test_splits_are_told_as_a_run_makes_them(write: Callable[..., Path], tmp_path: Path) -> None:
    """Groups stay whole."""
    rows = [{**row, "source": f"s{number % 9}"} for number, row in enumerate(reviews())]
    proposal = propose(write(rows), models=())
    project = Project(write_project(proposal, tmp_path))
    project.run()
    splits = project.leaderboard().splits
    assert [splits[name].rows for name in ("train", "dev", "test")] == [
        proposal.train,
        len(proposal.splits.dev),
        len(proposal.splits.test),
    ]
    assert splits["dev"].rows > proposal.dev
