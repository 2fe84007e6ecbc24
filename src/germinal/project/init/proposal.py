"""`germinal init`: a commented germinal.toml made of what the data file shows, the scope as narrow as it can be made.

One task, one input, one target, one metric that decides, splits as small as still tell candidates apart. What could not
be told from the data stands in `Proposal.questions`, for a person to answer; every other choice is explained beside it.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, cast

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from germinal.data.dataset import Dataset, make_dataset
from germinal.data.readers import Table, read_table
from germinal.data.splits import check_labels, split
from germinal.errors import DataError, ProjectFileError
from germinal.evaluation.metric import Answers
from germinal.evaluation.power import detectable_difference
from germinal.project.file.reader import FILE_NAME
from germinal.project.file.schema import schema_text
from germinal.project.file.tasks import TASKS, Task, task_named
from germinal.project.init.columns import (
    MOST_LABELS,
    Column,
    Guess,
    answers_in,
    describe,
    guess_group,
    guess_input,
    guess_target,
    guess_text,
)
from germinal.project.init.words import Words, words_for
from germinal.storage import write_text

SCHEMA_FILE = Path(".germinal") / "germinal.schema.json"

_MOST_HELD_OUT = 300  # rows of dev and of test: more make a run longer than they make it sharper
_SHARE_HELD_OUT = 0.2
_LEAST_ROWS = 30


@dataclass(frozen=True, slots=True)
class Question:
    """Something that the data does not tell; `key` is the argument of `propose` that answers it."""

    key: Literal["task", "input", "target", "use_case"]
    text: str
    options: tuple[str, ...]
    default: str


@dataclass(frozen=True, slots=True)
class Proposal:
    """What a germinal.toml shall say. `toml` writes it down.

    Attributes:
        words: Use case, prompt and measures.
        labels: How often each occurs; none where answers are texts.
        targets: The right texts; none where answers are labels.
    """

    data: Path
    task: Task
    words: Words
    input: str
    target: str
    group: str | None
    labels: dict[str, int]
    targets: tuple[str, ...]
    rows: int
    dropped: int
    dev: int
    test: int
    models: tuple[str, ...]
    questions: tuple[Question, ...]

    @property
    def baselines(self) -> tuple[str, ...]:
        """What a language model has to beat."""
        return TASKS[self.task].baselines

    @property
    def rules(self) -> tuple[str, ...]:
        """How an answer is read."""
        return TASKS[self.task].rules

    @property
    def max_new_tokens(self) -> int:
        """Room for the longest right text, at three characters a token, in steps of 16."""
        return max(16, -(-max(map(len, self.targets)) // 48) * 16)

    @property
    def separator(self) -> str | None:
        """What stands between worked examples and ends an answer, where the usual empty line stands in answers."""
        return "\n###\n" if any("\n\n" in target for target in self.targets) else None

    @property
    def train(self) -> int:
        """Rows that are left to choose shots from, to calibrate and to tune on."""
        return self.rows - self.dev - self.test

    @property
    def shots(self) -> list[int]:
        """Zero, and as many as there are labels or twice that; of texts, which are long, two."""
        if not self.labels:
            return [0, 2]
        return [0, len(self.labels), 2 * len(self.labels)] if len(self.labels) <= 4 else [0, len(self.labels)]

    @property
    def detectable(self) -> float | None:
        """The difference in accuracy that dev can show; None where answers are texts."""
        if not self.labels:
            return None
        return detectable_difference(self.dev).difference

    def toml(self, folder: Path) -> str:
        """The commented project file, for a file in `folder`."""
        environment = Environment(
            loader=FileSystemLoader(Path(__file__).parent),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
        )
        environment.filters["toml"] = _toml
        data = os.path.relpath(self.data.resolve(), folder.resolve())
        template = environment.get_template("germinal.toml.jinja")
        return template.render(proposal=self, data=Path(data).as_posix(), schema=SCHEMA_FILE.as_posix())


def propose(
    data: str | Path,
    *,
    use_case: str | None = None,
    task: str | None = None,
    input: str | None = None,
    target: str | None = None,
    group: str | None = None,
    models: Sequence[str] = ("smollm2-135m-instruct",),
) -> Proposal:
    """Look into a data file and say what its project could be.

    Args:
        data: A csv, tsv, jsonl or parquet file.
        use_case: One sentence; made up from the labels or the task when absent, and then a question.
        task: The kind of answer. When absent it is "classification" where the answers are labels; which task has texts
            for answers the data cannot tell: "generation" is proposed, and it is a question.
        input: Column of the texts; guessed when absent.
        target: Column of the right answers; guessed when absent.
        group: Column that names the source of a row; guessed from its name when absent.
        models: Which models to try.

    Raises:
        DataError: the file is missing or malformed, has no column that could be the input or the target, too few rows,
            the same input with two targets, or a label too rare to be in the training split.
        UnsupportedError: a task that no project can have yet.
    """
    table = _readable(data, (input, target, group))
    columns = describe(table)
    answers = answers_in(columns, input, target) if task is None else task_named(task).answers
    chosen_task = cast("Task", task or ("classification" if answers == "labels" else "generation"))
    found_target = Guess(target) if target else (guess_target if answers == "labels" else guess_text)(columns, input)
    found_input = Guess(input) if input else guess_input(columns, found_target.name)
    chosen_input, chosen_target = _chosen(found_input, found_target, Path(data))
    chosen_group = group or guess_group(columns, (chosen_input, chosen_target)).name
    dataset = make_dataset(
        table,
        input=chosen_input,
        target=chosen_target,
        group=chosen_group,
        duplicates="drop",
        closed=answers == "labels",
    )
    labels = _labels(dataset, Path(data), chosen_target) if answers == "labels" else {}
    held_out = _held_out(dataset, Path(data))
    if labels:
        check_labels(split(dataset.rows, dev=held_out, test=held_out))
    words = words_for(chosen_task, chosen_input, chosen_target, labels)
    proposal = Proposal(
        data=Path(data),
        task=chosen_task,
        words=words,
        input=chosen_input,
        target=chosen_target,
        group=chosen_group,
        labels=labels,
        targets=() if labels else tuple(row.target for row in dataset.rows),
        rows=len(dataset.rows),
        dropped=len(dataset.dropped),
        dev=held_out,
        test=held_out,
        models=tuple(models),
        questions=_questions(found_input, found_target, task, answers, use_case, words.use_case, columns),
    )
    return proposal if use_case is None else replace(proposal, words=replace(words, use_case=use_case))


def write_project(proposal: Proposal, path: str | Path, overwrite: bool = False) -> Path:
    """Write germinal.toml, and beside it the JSON Schema that its first line points editors to.

    Args:
        proposal: What it shall say.
        path: The file, or the folder that it shall stand in.
        overwrite: Replace a file that is there.

    Raises:
        ProjectFileError: there is one, and nobody said to replace it.
        StorageError: it cannot be written.
    """
    path = Path(path)
    file = path / FILE_NAME if path.is_dir() or not path.suffix else path
    if file.exists() and not overwrite:
        raise ProjectFileError(
            "there is a project file already.", where=str(file), hint="Say --overwrite to replace it."
        )
    write_text(file.parent / SCHEMA_FILE, schema_text())
    write_text(file, proposal.toml(file.parent))
    return file


def _readable(data: str | Path, named: Iterable[str | None]) -> Table:
    table = read_table(data)
    for name in named:
        if name is not None:
            table.require_column(name)
    return table


def _chosen(found_input: Guess, found_target: Guess, data: Path) -> tuple[str, str]:
    if found_target.name is None:
        raise DataError("no column has few values that come again.", where=str(data), hint="Name the target column.")
    if found_input.name is None:
        raise DataError("no column holds texts.", where=str(data), hint="Name the input column.")
    return found_input.name, found_target.name


def _labels(dataset: Dataset, data: Path, target: str) -> dict[str, int]:
    """Labels by how often they occur, the most frequent first."""
    counts = Counter(row.target for row in dataset.rows)
    if not 2 <= len(counts) <= MOST_LABELS:
        what = f"column '{target}' has {len(counts):,} different values; a classification has 2 to {MOST_LABELS}."
        raise DataError(what, where=str(data), hint="Name another target column, or a task whose answers are texts.")
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _held_out(dataset: Dataset, data: Path) -> int:
    rows = len(dataset.rows)
    if rows < _LEAST_ROWS:
        raise DataError(
            f"{rows} different rows are too few to measure anything.", where=str(data), hint=f"Bring {_LEAST_ROWS}."
        )
    return min(_MOST_HELD_OUT, max(10, round(rows * _SHARE_HELD_OUT)))


def _questions(
    found_input: Guess,
    found_target: Guess,
    task: str | None,
    answers: Answers,
    use_case: str | None,
    sentence: str,
    columns: Sequence[Column],
) -> tuple[Question, ...]:
    names = {column.name: column for column in columns}
    questions = []
    if task is None and answers == "text":
        tasks = tuple(name for name, known in TASKS.items() if known.answers == "text")
        # The others come when it is answered: how they are put depends on it.
        return (Question("task", "What kind of texts are the answers?", tasks, "generation"),)
    for key, guess, text in (
        ("target", found_target, "Which column holds the right answer?"),
        ("input", found_input, "Which column holds the text?"),
    ):
        if not guess.sure and guess.name is not None:
            options = tuple(name for name in (guess.name, *guess.others) if name in names)
            questions.append(Question(key, text, options, guess.name))  # type: ignore[arg-type]
    if use_case is None:
        questions.append(Question("use_case", "What is the model for, in one sentence?", (), sentence))
    return tuple(questions)


def _toml(value: object) -> str:
    """A value in TOML: JSON's strings, numbers and lists are TOML's too, but for one control character."""
    match value:
        case Mapping():
            return "{ " + ", ".join(f"{_key(str(key))} = {_toml(item)}" for key, item in value.items()) + " }"
        case tuple() | list():
            return "[" + ", ".join(_toml(item) for item in value) + "]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _key(name: str) -> str:
    bare = name.isascii() and name.replace("-", "").replace("_", "").isalnum()
    return name if bare else _toml(name)
