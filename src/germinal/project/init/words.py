"""The words of a proposed project: its use case in a sentence, its prompt, and what is measured."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from germinal.errors import SettingError
from germinal.predictors.answers import Labels
from germinal.project.file.tasks import TASKS, Task

_EVEN = 0.65  # up to this share of the most frequent label, accuracy can decide
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
class Words:
    """What a germinal.toml says in words, and what it measures.

    Attributes:
        labels: The words that stand for labels, where they are not the labels themselves.
        metrics: The deciding one first.
        success: Metric to what it has to reach; empty for texts, whose metrics do not say what is useful.
    """

    use_case: str
    instruction: str
    answer: str
    labels: dict[str, str]
    metrics: tuple[str, ...]
    success: dict[str, float]


def words_for(task: Task, input: str, target: str, labels: Mapping[str, int]) -> Words:
    """The words for a task.

    Args:
        input: The column of inputs.
        target: The column of right answers.
        labels: The labels with how often each occurs; empty where answers are texts.
    """
    if not labels:
        known, noun = TASKS[task], _noun(input)
        names = {"input": noun, "target": target.replace("_", " ").lower(), "Target": _title(target)}
        names["an_input"] = f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"
        use_case, instruction, answer = (
            part.format(**names) for part in (known.use_case, known.instruction, known.answer)
        )
        return Words(use_case, instruction, answer, {}, known.metrics, {})
    words = _label_words(labels)
    metrics, success = _measures(labels)
    return Words(
        _sentence(input, list(labels), words),
        f"Classify this {_noun(input)}:",
        "Sentiment:" if set(words.values()) >= {"Positive", "Negative"} else f"{_title(target)}:",
        words,
        metrics,
        success,
    )


def _label_words(labels: Iterable[str]) -> dict[str, str]:
    """Words for labels that are abbreviations, unless another label would have the same word ("y" beside "yes")."""
    words = {label: _WORDS[label.lower()] for label in labels if label.lower() in _WORDS}
    try:
        Labels.of(labels, words)
    except SettingError:
        return {}
    return words


def _measures(labels: Mapping[str, int]) -> tuple[tuple[str, ...], dict[str, float]]:
    """Metrics, the deciding one first, and a criterion well above what the most frequent label reaches by itself."""
    largest = max(labels.values()) / sum(labels.values())
    if largest <= _EVEN:
        return ("accuracy", "f1_macro"), {"accuracy": _between(largest)}
    return ("f1_macro", "accuracy"), {"f1_macro": _between(1 / len(labels))}


def _between(chance: float) -> float:
    """Three fifths of the way from chance to perfect, rounded to a multiple of 0.05."""
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
