"""The report's examples and prompts: every answer of every trial, and prompts in which white space can be seen."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from germinal.evaluation.metrics import METRICS
from germinal.ledger import AnswerRecord, Ledger, PromptRecord, Results
from germinal.project.board import formats
from germinal.project.board.comparison import reply, text_sample
from germinal.project.board.leaderboard import Leaderboard

MOST_EXAMPLES = 1000  # of one split on a page; the ledger has all of them


@dataclass(frozen=True, slots=True)
class ExampleTable:
    """The examples of one split, and what every trial measured there answered.

    Attributes:
        total: Rows of the split; `rows` may be fewer.
        trials: Each trial's id, label and replies in the order of `rows`: [answer, 1 or 0 for right or wrong, raw
            output]; where answers are texts, the metric of the row takes the second place.
        first: The trial that is shown first; `second` is the one beside it.
        metric: The name of that metric; None for labels.
        digits: How many digits it is shown with.
    """

    split: str
    total: int
    rows: list[dict[str, Any]]
    trials: list[dict[str, Any]]
    first: int
    second: int
    metric: str | None = None
    digits: int = 3

    @property
    def data(self) -> dict[str, Any]:
        """What the page's script needs in order to show another trial."""
        replies = [{"replies": trial["replies"]} for trial in self.trials]
        return {"trials": replies, "texts": self.metric is not None, "digits": self.digits}


@dataclass(frozen=True, slots=True)
class PromptGroup:
    """Prompts, and the trials that share them."""

    trials: list[str]
    prompts: list[PromptRecord]
    winner: bool
    cut: bool


def example_table(board: Leaderboard, results: Results, ledger: Ledger, split: str) -> ExampleTable | None:
    """The examples of a split; None when nothing was measured on it."""
    order = {row.id: place for place, row in enumerate(board.rows)}
    trials = [trial for trial in results.trials if trial.figures.get(split)]
    trials.sort(key=lambda trial: (order[trial.candidate], trial.position))
    if not trials:
        return None
    answers = {trial.id: ledger.answers(trial.id, split=split, run_id=results.run.id) for trial in trials}
    shown = answers[trials[0].id][:MOST_EXAMPLES]
    metric = board.primary if board.answers == "text" else None
    ids = [trial.id for trial in trials]
    first = ids.index(results.choice.winner_trial) if results.choice and results.choice.winner_trial in ids else 0
    baselines = {row.id for row in board.rows if row.kind == "baseline"}
    others = [index for index in range(len(ids)) if index != first]
    if trials[first].candidate not in baselines:
        others.sort(key=lambda index: trials[index].candidate not in baselines)
    return ExampleTable(
        split=split,
        total=len(answers[trials[0].id]),
        rows=[{"row_id": row.row_id, "input": row.input, "target": row.target} for row in shown],
        trials=[
            {
                "id": trial.id,
                "label": _trial_label(trial.id, trial.shot_seed, board.row(trial.candidate).label),
                "replies": _replies(answers[trial.id], shown, metric),
            }
            for trial in trials
        ],
        first=first,
        second=(others or [first])[0],
        metric=metric,
        digits=formats.digits(board.primary),
    )


def _trial_label(trial: str, seed: int | None, candidate: str) -> str:
    return candidate if seed is None else f"{candidate}, shot seed {seed}"


def _replies(
    answers: Sequence[AnswerRecord], shown: Sequence[AnswerRecord], metric: str | None
) -> list[list[Any] | None]:
    """The replies to the shown rows, see `ExampleTable.trials`; None where the trial has no answer to a row."""
    by_row = {answer.row_id: answer for answer in answers}
    found = [by_row.get(row.row_id) for row in shown]
    known = [answer for answer in found if answer is not None]
    values: dict[str, float] = {answer.row_id: int(answer.correct) for answer in known}
    if metric is not None and known:
        scores = METRICS[metric].of_rows(text_sample(known)).tolist()
        values = {answer.row_id: round(score, 4) for answer, score in zip(known, scores, strict=True)}
    return [None if answer is None else [answer.answer, values[answer.row_id], reply(answer).raw] for answer in found]


def prompt_groups(board: Leaderboard, results: Results, ledger: Ledger) -> list[PromptGroup]:
    """The first prompts of every trial of a language model on dev, the winner's on top; equal ones are shown once."""
    groups: dict[tuple[str, ...], list[str]] = {}
    prompts: dict[tuple[str, ...], list[PromptRecord]] = {}
    winner = results.choice.winner_trial if results.choice else None
    labels = {
        trial.id: _trial_label(trial.id, trial.shot_seed, board.row(trial.candidate).label) for trial in results.trials
    }
    chosen: set[tuple[str, ...]] = set()
    for trial in results.trials:
        if "predict/dev" not in trial.steps:
            continue
        found = ledger.prompts(trial.id, run_id=results.run.id)
        if not found:
            continue
        key = tuple(prompt.text for prompt in found)
        prompts[key] = found
        groups.setdefault(key, []).append(labels[trial.id])
        if trial.id == winner:
            chosen.add(key)
    made = [
        PromptGroup(
            trials=groups[key],
            prompts=prompts[key],
            winner=key in chosen,
            cut=any(prompt.dropped_examples or prompt.truncated_tokens for prompt in prompts[key]),
        )
        for key in groups
    ]
    return sorted(made, key=lambda group: not group.winner)


_INVISIBLE = r"\n\t\r\f\v\x1c-\x1f\x85\xa0\u2000-\u200f\u2028\u2029\u202f\u3000\ufeff"
_SEEN = re.compile(rf"[{_INVISIBLE}]|(?<![^{_INVISIBLE}]) +| +(?![^{_INVISIBLE}])|  +")
_NAMED = {"\n": "newline", "\t": "tab"}


def visible(text: str) -> Iterator[tuple[str, str]]:
    """A text as (kind, piece) pairs: "text" is shown as it is, the other kinds are marked by the page.

    They are "newline", "tab", "space" (at the edge of a line, or beside another one), and for any other white space or
    invisible character its code point. The pieces join to the text.
    """
    end = 0
    for match in _SEEN.finditer(text):
        if match.start() > end:
            yield "text", text[end : match.start()]
        piece = match.group()
        for character in piece:
            yield _NAMED.get(character, "space" if character == " " else f"U+{ord(character):04X}"), character
        end = match.end()
    if end < len(text):
        yield "text", text[end:]
