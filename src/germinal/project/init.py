"""`germinal init`: a commented germinal.toml made of what the data file shows, the scope as narrow as it can be made.

One task, one input, one target, one metric that decides, splits as small as still tell candidates apart. What could not
be told from the data stands in `Proposal.questions`, for a person to answer; every other choice is explained beside it.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from germinal.data.dataset import Dataset, make_dataset
from germinal.data.readers import Table, read_table
from germinal.data.splits import check_labels, split
from germinal.errors import DataError, ProjectFileError, UnsupportedError
from germinal.evaluation.power import detectable_difference
from germinal.project.init_columns import MOST_LABELS, Column, Guess, describe, guess_group, guess_input, guess_target
from germinal.project.project_file import FILE_NAME
from germinal.project.schema import schema_text
from germinal.storage import write_text

SCHEMA_FILE = Path(".germinal") / "germinal.schema.json"

_MOST_HELD_OUT = 300  # rows of dev and of test: more make a run longer than they make it sharper
_SHARE_HELD_OUT = 0.2
_LEAST_ROWS = 30
_EVEN = 0.65  # the largest label's share up to which accuracy says enough
_WORDS = {
    "pos": "Positive",
    "neg": "Negative",
    "neu": "Neutral",
    "y": "Yes",
    "n": "No",
    "true": "Yes",
    "false": "No",
}


@dataclass(frozen=True, slots=True)
class Question:
    """Something that the data does not tell; `key` is the argument of `propose` that answers it."""

    key: Literal["input", "target", "use_case"]
    text: str
    options: tuple[str, ...]
    default: str


@dataclass(frozen=True, slots=True)
class Proposal:
    """What a germinal.toml shall say. `toml` writes it down."""

    data: Path
    use_case: str
    input: str
    target: str
    group: str | None
    labels: dict[str, int]
    words: dict[str, str]
    rows: int
    dropped: int
    dev: int
    test: int
    metrics: tuple[str, ...]
    success: dict[str, float]
    models: tuple[str, ...]
    instruction: str
    answer: str
    questions: tuple[Question, ...]

    @property
    def train(self) -> int:
        """Rows that are left to choose shots from, to calibrate and to tune on."""
        return self.rows - self.dev - self.test

    @property
    def shots(self) -> list[int]:
        """Zero, and as many as there are labels or twice that, when training has them."""
        return [0, len(self.labels), 2 * len(self.labels)] if len(self.labels) <= 4 else [0, len(self.labels)]

    @property
    def detectable(self) -> float | None:
        """The difference in accuracy that dev can show."""
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
        use_case: One sentence; made up from the labels when absent, and then a question.
        task: The kind of answer; only "classification" can be proposed yet.
        input: Column of the texts; guessed when absent.
        target: Column of the labels; guessed when absent.
        group: Column that names the source of a row; guessed from its name when absent.
        models: Which models to try.

    Raises:
        DataError: the file is missing or malformed, has no column that could be the input or the target, too few rows,
            the same input with two targets, or a label too rare to be in the training split.
        UnsupportedError: another task.
    """
    table = _readable(data, task, (input, target, group))
    columns = describe(table)
    found_target = Guess(target) if target else guess_target(columns, input)
    found_input = Guess(input) if input else guess_input(columns, found_target.name)
    chosen_input, chosen_target = _chosen(found_input, found_target, Path(data))
    chosen_group = group or guess_group(columns, (chosen_input, chosen_target)).name
    dataset = make_dataset(table, input=chosen_input, target=chosen_target, group=chosen_group, duplicates="drop")
    labels = _labels(dataset, Path(data), chosen_target)
    held_out = _held_out(dataset, Path(data))
    check_labels(split(dataset.rows, dev=held_out, test=held_out))
    words = {label: _WORDS[label.lower()] for label in labels if label.lower() in _WORDS}
    metrics, success = _measures(labels)
    sentence = use_case or _sentence(chosen_input, list(labels), words)
    return Proposal(
        data=Path(data),
        use_case=sentence,
        input=chosen_input,
        target=chosen_target,
        group=chosen_group,
        labels=labels,
        words=words,
        rows=len(dataset.rows),
        dropped=len(dataset.dropped),
        dev=held_out,
        test=held_out,
        metrics=metrics,
        success=success,
        models=tuple(models),
        instruction=f"Classify this {_noun(chosen_input)}:",
        answer="Sentiment:" if set(words.values()) >= {"Positive", "Negative"} else f"{_title(chosen_target)}:",
        questions=_questions(found_input, found_target, use_case, sentence, columns),
    )


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


def _readable(data: str | Path, task: str | None, named: Iterable[str | None]) -> Table:
    if task not in (None, "classification"):
        raise UnsupportedError(f"no project can be proposed for the task '{task}' yet.", hint="Known: classification.")
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
        raise DataError(what, where=str(data), hint="Name another target column.")
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _held_out(dataset: Dataset, data: Path) -> int:
    rows = len(dataset.rows)
    if rows < _LEAST_ROWS:
        raise DataError(
            f"{rows} different rows are too few to measure anything.", where=str(data), hint=f"Bring {_LEAST_ROWS}."
        )
    return min(_MOST_HELD_OUT, max(10, round(rows * _SHARE_HELD_OUT)))


def _measures(labels: Mapping[str, int]) -> tuple[tuple[str, ...], dict[str, float]]:
    """Metrics, the deciding one first, and a criterion well above what the most frequent label alone reaches."""
    largest = max(labels.values()) / sum(labels.values())
    if largest <= _EVEN:
        return ("accuracy", "f1_macro"), {"accuracy": _between(largest)}
    return ("f1_macro", "accuracy"), {"f1_macro": _between(1 / len(labels))}


def _between(chance: float) -> float:
    """Three fifths of the way from chance to perfect, rounded to a twentieth."""
    return round((chance + 0.6 * (1 - chance)) * 20) / 20


def _sentence(input: str, labels: Sequence[str], words: Mapping[str, str]) -> str:
    named = [words.get(label, label) for label in labels[:4]]
    options = " or ".join([", ".join(named[:-1]), named[-1]]) if len(labels) <= 4 else f"one of {len(labels)} labels"
    return f"Say whether a {_noun(input)} is {options}"


def _noun(input: str) -> str:
    name = input.lower().replace("_", " ")
    return "text" if name in ("input", "content", "body", "x") else name


def _title(target: str) -> str:
    return target.replace("_", " ").strip().capitalize()


def _questions(
    found_input: Guess, found_target: Guess, use_case: str | None, sentence: str, columns: Sequence[Column]
) -> tuple[Question, ...]:
    names = {column.name: column for column in columns}
    questions = []
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
