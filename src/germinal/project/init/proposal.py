"""What a project could be, judging by its data file alone; the scope as narrow as it can be made.

One task, one input, one target, one metric that decides, dev and test as small as they can be and still tell candidates
apart. What the data does not tell is in `Proposal.questions`, for a person to answer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal, cast

from germinal.data.dataset import Dataset, make_dataset
from germinal.data.readers import Table, read_table
from germinal.data.splits import Splits, check_labels, split
from germinal.errors import DataError, SettingError
from germinal.evaluation.metric import Answers
from germinal.evaluation.power import detectable_difference
from germinal.predictors.answers import Labels
from germinal.project.file.tasks import TASKS, Task, task_named
from germinal.project.init.columns import MOST_LABELS, Guesses, answers_in, describe, guess_columns, guess_group
from germinal.project.init.lengths import Lengths, lengths_of
from germinal.project.init.words import Words, words_for

_MOST_HELD_OUT = 300  # rows of dev and of test: with more, a run takes longer and hardly tells more
_SHARE_HELD_OUT = 0.2
_LEAST_ROWS = 30
_USUAL_TASK: dict[Answers, Task] = {"labels": "classification", "text": "generation"}


@dataclass(frozen=True, slots=True)
class Question:
    """Something that the data does not tell; `key` is the argument of `propose` that answers it."""

    key: Literal["task", "input", "target", "use_case"]
    text: str
    options: tuple[str, ...]
    default: str


@dataclass(frozen=True)
class Proposal:
    """What a germinal.toml is to say; `germinal.project.init.writer` writes it down.

    Attributes:
        data: The data file.
        words: Use case, prompt and metrics.
        input: The column of inputs; `target` is that of right answers, `group` that of sources if there is one.
        dataset: The rows, without duplicates.
        labels: How often each occurs, the most frequent first; none where answers are texts.
        held_out: Rows of dev, and as many of test.
        questions: What only a person can tell.
    """

    data: Path
    task: Task
    words: Words
    input: str
    target: str
    group: str | None
    dataset: Dataset
    labels: dict[str, int]
    held_out: int
    models: tuple[str, ...]
    questions: tuple[Question, ...]

    @property
    def rows(self) -> int:
        """Rows that are left when duplicates are dropped."""
        return len(self.dataset.rows)

    @property
    def dropped(self) -> int:
        """Rows that repeat another one."""
        return len(self.dataset.dropped)

    @property
    def dev(self) -> int:
        """Rows on which candidates are compared."""
        return self.held_out

    @property
    def test(self) -> int:
        """Rows on which the winner is measured."""
        return self.held_out

    @property
    def baselines(self) -> tuple[str, ...]:
        """What a language model has to beat."""
        return TASKS[self.task].baselines

    @property
    def rules(self) -> tuple[str, ...]:
        """How an answer is read."""
        return TASKS[self.task].rules

    @cached_property
    def splits(self) -> Splits:
        """The rows as a run divides them: groups stay whole, so that dev and test may be larger than asked for."""
        return split(self.dataset.rows, dev=self.dev, test=self.test)

    @cached_property
    def lengths(self) -> Lengths:
        """Right answers and prompts of the training rows in the models' own tokens."""
        return lengths_of(self.models, self.words, self.splits.train, self.shots, closed=bool(self.labels))

    @property
    def separator(self) -> str | None:
        """What to put between worked examples where an empty line, the default, occurs in right texts; else None."""
        if self.labels or not any("\n\n" in row.target for row in self.dataset.rows):
            return None
        return "\n###\n"

    @property
    def train(self) -> int:
        """Rows that are left to choose shots from, to calibrate and to tune on."""
        return len(self.splits.train)

    @property
    def shots(self) -> list[int]:
        """None, as many as there are labels, and with few labels twice as many; for texts, which are long, two."""
        if not self.labels:
            return [0, 2]
        return [0, len(self.labels), 2 * len(self.labels)] if len(self.labels) <= 4 else [0, len(self.labels)]

    @property
    def detectable(self) -> float | None:
        """The difference in accuracy that dev can show; None where answers are texts."""
        if not self.labels:
            return None
        return detectable_difference(len({row.unit for row in self.splits.dev})).difference


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
    """Propose a project for a data file.

    Args:
        data: A csv, tsv, jsonl or parquet file.
        use_case: One sentence. When absent, one is made up from the labels or the task, and a person is asked.
        task: The kind of answer. When absent it is "classification" where the answers are labels. Where they are texts
            the data cannot tell which task it is: "generation" is proposed, and a person is asked.
        input: Column of the texts; guessed when absent.
        target: Column of the right answers; guessed when absent.
        group: Column that names the source of a row; guessed from its name when absent.
        models: Which models to try.

    Raises:
        DataError: the file is missing or malformed, has no column that could be the input or the target, too few rows,
            the same input with two targets, or a label that is too rare to be in the training split.
        UnsupportedError: no project can have this task yet.
    """
    path = Path(data)
    table = _readable(path, (input, target, group))
    columns = describe(table)
    answers = answers_in(columns, input, target) if task is None else task_named(task).answers
    guesses = guess_columns(columns, answers, input, target)
    input, target = _chosen(guesses, path)
    group = group or guess_group(columns, (input, target)).name
    closed = answers == "labels"
    dataset = make_dataset(table, input=input, target=target, group=group, duplicates="drop", closed=closed)
    labels = _labels(dataset, path, target) if closed else {}
    known = cast("Task", task or _USUAL_TASK[answers])
    words = words_for(known, input, target, labels)
    return Proposal(
        data=path,
        task=known,
        words=words if use_case is None else replace(words, use_case=use_case),
        input=input,
        target=target,
        group=group,
        dataset=dataset,
        labels=labels,
        held_out=_held_out(dataset, path, closed),
        models=tuple(models),
        questions=_questions(guesses, None if task or closed else known, words.use_case if use_case is None else None),
    )


def _readable(data: Path, named: Iterable[str | None]) -> Table:
    """The data file, with the columns that are named.

    Raises:
        DataError: it cannot be read, or lacks one of them.
    """
    table = read_table(data)
    for name in named:
        if name is not None:
            table.require_column(name)
    return table


def _chosen(guesses: Guesses, data: Path) -> tuple[str, str]:
    """The most likely input and target columns.

    Raises:
        DataError: no column could be one of them.
    """
    if guesses.target.name is None:
        raise DataError("no column looks like right answers.", where=str(data), hint="Name the target column.")
    if guesses.input.name is None:
        raise DataError("no column holds texts.", where=str(data), hint="Name the input column.")
    return guesses.input.name, guesses.target.name


def _labels(dataset: Dataset, data: Path, target: str) -> dict[str, int]:
    """Labels with how often they occur, the most frequent first.

    Raises:
        DataError: there are too many for a classification, or only one, or one is spelt in several ways.
    """
    counts = Counter(row.target for row in dataset.rows)
    if not 2 <= len(counts) <= MOST_LABELS:
        what = f"column '{target}' has {len(counts):,} different values; a classification has 2 to {MOST_LABELS}."
        raise DataError(what, where=str(data), hint="Name another target column, or a task whose answers are texts.")
    try:
        Labels.of(counts)
    except SettingError as error:
        raise DataError(f"column '{target}': {error.what}", where=str(data), hint=error.hint) from error
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _held_out(dataset: Dataset, data: Path, closed: bool) -> int:
    """How many rows dev and test have each.

    Raises:
        DataError: there are too few rows, or a label is too rare to be in all splits.
    """
    rows = len(dataset.rows)
    if rows < _LEAST_ROWS:
        raise DataError(
            f"{rows} different rows are too few to measure anything.",
            where=str(data),
            hint=f"At least {_LEAST_ROWS} are needed.",
        )
    held_out = min(_MOST_HELD_OUT, max(10, round(rows * _SHARE_HELD_OUT)))
    if closed:
        check_labels(split(dataset.rows, dev=held_out, test=held_out))
    return held_out


def _questions(guesses: Guesses, unsure_task: Task | None, use_case: str | None) -> tuple[Question, ...]:
    """What to ask a person.

    Args:
        unsure_task: The task to propose, where it is not known which one it is.
        use_case: The sentence to propose, where nobody gave one.
    """
    if unsure_task is not None:
        tasks = tuple(name for name, task in TASKS.items() if task.answers == TASKS[unsure_task].answers)
        # The other questions come when this one is answered: their wording depends on it.
        return (Question("task", "What kind of texts are the answers?", tasks, unsure_task),)
    questions = []
    if guesses.target.name is not None and not guesses.target.sure:
        names = (guesses.target.name, *guesses.target.others)
        questions.append(Question("target", "Which column holds the right answer?", names, names[0]))
    if guesses.input.name is not None and not guesses.input.sure:
        names = (guesses.input.name, *guesses.input.others)
        questions.append(Question("input", "Which column holds the text?", names, names[0]))
    if use_case is not None:
        questions.append(Question("use_case", "What is the model for, in one sentence?", (), use_case))
    return tuple(questions)
