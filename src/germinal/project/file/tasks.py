"""The tasks of [scope]: labels or texts for answers, and what a project measures and tries by default.

A task fills in the metrics, baselines and answer rules that germinal.toml leaves out, and says which of them fit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from germinal.errors import UnsupportedError
from germinal.evaluation.metric import Answers
from germinal.predictors.answers import RULES, TEXT_TOKENS, Rule

Task = Literal[
    "classification",
    "summarization",
    "translation",
    "extraction",
    "question-answering",
    "code",
    "chat",
    "generation",
]
Baseline = Literal["majority", "tfidf", "lead", "copy", "nearest"]

BASELINES_OF: Mapping[Answers, tuple[Baseline, ...]] = {
    "labels": ("majority", "tfidf"),
    "text": ("lead", "copy", "nearest"),
}
"""The baselines that fit labels, and those that fit texts."""

RULES_OF: Mapping[Answers, tuple[Rule, ...]] = {"labels": RULES, "text": ("generate",)}
"""The answer rules that fit: a text can only be generated."""


@dataclass(frozen=True, slots=True)
class TaskDefaults:
    """What a task implies where germinal.toml is silent.

    Attributes:
        answers: Whether answers are labels or texts.
        metrics: What is measured; the first decides.
        baselines: What a language model has to beat.
        use_case: For texts, the sentence that `germinal init` proposes, with places for the names of the columns.
        instruction: Likewise, the first line of the prompt.
        answer: Likewise, its last line.
    """

    answers: Answers
    metrics: tuple[str, ...]
    baselines: tuple[Baseline, ...]
    use_case: str = ""
    instruction: str = ""
    answer: str = ""

    @property
    def rules(self) -> tuple[Rule, ...]:
        """How an answer is read."""
        return RULES_OF[self.answers]

    @property
    def max_new_tokens(self) -> int | None:
        """Most tokens of an answer; None for labels, which have room for the longest of them."""
        return TEXT_TOKENS if self.answers == "text" else None


TASKS: Mapping[Task, TaskDefaults] = {
    "classification": TaskDefaults("labels", ("accuracy",), ("majority", "tfidf")),
    "summarization": TaskDefaults(
        "text",
        ("rougeL", "rouge1", "rouge2"),
        ("lead", "nearest"),
        "Summarize {an_input}",
        "Summarize this {input}:",
        "Summary:",
    ),
    # chrF goes with people's judgement better than BLEU (Kocmi et al. 2021, arXiv 2107.10821).
    "translation": TaskDefaults(
        "text", ("chrf", "bleu"), ("copy", "nearest"), "Translate a text", "Translate this text:", "Translation:"
    ),
    "extraction": TaskDefaults(
        "text",
        ("exact_match", "token_f1"),
        ("nearest", "copy"),
        "Find the {target} in {an_input}",
        "Find the {target} in this {input}:",
        "{Target}:",
    ),
    "question-answering": TaskDefaults(
        "text",
        ("token_f1", "exact_match"),
        ("nearest", "lead"),
        "Answer a question",
        "Answer this question:",
        "Answer:",
    ),
    "generation": TaskDefaults(
        "text",
        ("rougeL", "chrf"),
        ("nearest", "copy"),
        "Write the {target} for {an_input}",
        "Write the {target} for this {input}:",
        "{Target}:",
    ),
}
"""The tasks that a project can have."""


def task_named(name: str) -> TaskDefaults:
    """What a task implies.

    Raises:
        UnsupportedError: no project can have this task yet.
    """
    if name not in TASKS:
        raise UnsupportedError(
            f"the task '{name}' is not supported yet.", where="scope.task", hint=f"Known: {', '.join(TASKS)}."
        )
    return TASKS[name]  # type: ignore[index]  # it is one of the keys


def fill_in(values: Any) -> Any:
    """The tables of a project file, completed with what its task implies. Malformed values are left for validation."""
    if not isinstance(values, Mapping) or not isinstance(scope := values.get("scope"), Mapping):
        return values
    task = scope.get("task", "classification")
    if not isinstance(task, str) or task not in TASKS:
        return values
    implied = TASKS[task]  # type: ignore[index]  # it is one of the keys
    filled = dict(values)
    for path, default in (
        (("scope", "metrics"), implied.metrics),
        (("select", "baselines"), implied.baselines),
        (("adapt", "prompt", "rules"), implied.rules),
    ):
        _set_default(filled, path, list(default))
    return filled


def _set_default(tables: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    """Set a missing key in copies of the tables on its path."""
    for part in path[:-1]:
        table = tables.get(part, {})
        if not isinstance(table, Mapping):
            return
        tables[part] = dict(table)
        tables = tables[part]
    tables.setdefault(path[-1], value)
