"""Two trials side by side: where one is right and the other wrong, whether that could be chance, and all differences.

Every example whose answers differ comes with the raw output of both. Texts are seldom right to the letter: they are
compared by the deciding metric, row by row.

The test is the evaluator's: exact McNemar for right and wrong answers unless rows share sources. No plan declared it:
its p-value is exploratory, not corrected for the other pairs that could have been compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from germinal.data.units import clusters_of
from germinal.errors import LedgerError, SettingError
from germinal.evaluation import evaluator
from germinal.evaluation.metrics import METRICS
from germinal.evaluation.sample import Sample
from germinal.ledger import AnswerRecord, CountsRecord, Ledger, Results, TrialRecord
from germinal.project.board import formats
from germinal.project.board.leaderboard import answers_of, max_new_tokens_of


@dataclass(frozen=True, slots=True)
class Reply:
    """What one trial made of one example.

    Attributes:
        answer: The label or the text; None when the trial failed.
        correct: Whether it is the target to the letter.
        text: What was generated; None where nothing was, or exactly the answer.
        probabilities: Of the labels, where the rule gives them.
        error: Why the trial failed.
        score: The metric of this row by itself, where answers are texts.
    """

    answer: str | None
    correct: bool
    text: str | None
    probabilities: dict[str, float] | None
    error: str | None
    score: float | None = None

    @property
    def raw(self) -> str:
        """The text as it was generated, else the probabilities, else nothing."""
        return self.text if self.text is not None else formats.probabilities(self.probabilities or {})


@dataclass(frozen=True, slots=True)
class Difference:
    """One example to which the two trials gave different answers."""

    row_id: str
    position: int
    input: str
    target: str
    first: Reply
    second: Reply


@dataclass(frozen=True, slots=True)
class TrialComparison:
    """Two trials on the same examples of one split.

    Attributes:
        run: Of which run, and `limit` the rows of dev and of test that it was limited to, a trial run; None for all.
        weights: What the model of each computes with, and how its file holds it if that differs; None for baselines.
        counts: Of each, how many of its answers cannot count; None where an older run did not count them.
        max_new_tokens: See `Leaderboard`.
        n: Examples that both answered.
        both_right: Examples that both got right; `only_first`, `only_second` and `neither` are the other three cells.
        metric: What they are compared by: accuracy for labels, for texts the deciding metric.
        figures: Its value for the first and for the second.
        better: On how many examples the first has the better value, and on how many the second.
        difference: The metric of the first minus that of the second.
        low: Lower end of the difference's 95% interval, None where none can be given; `high` is the upper one.
        p_value: Of the paired test, uncorrected.
        test: Its name.
        differing: The examples whose answers differ; both may be wrong. They are in the split's order; for texts, those
            that differ most in the metric come first.
    """

    first: str
    second: str
    split: str
    run: int
    limit: int | None
    weights: tuple[str | None, str | None]
    counts: tuple[CountsRecord | None, CountsRecord | None]
    max_new_tokens: int | None
    n: int
    both_right: int
    only_first: int
    only_second: int
    neither: int
    metric: str
    figures: tuple[float, float]
    better: tuple[int, int]
    difference: float
    low: float | None
    high: float | None
    p_value: float
    test: str
    differing: list[Difference]

    def to_json(self) -> dict[str, Any]:
        """Values ready for JSON, in a fixed order."""
        return asdict(self)


def compare(ledger: Ledger, first: str, second: str, split: str = "dev", run_id: int | None = None) -> TrialComparison:
    """Compare two trials of one run.

    Args:
        ledger: The project's.
        first: The id of a trial, or of a candidate with a single replicate.
        second: Likewise.
        split: "dev" or "test".
        run_id: Of the run; by default the latest finished one over all rows, see `Ledger.results`.

    Raises:
        LedgerError: no such trial, or it was not measured on that split.
        SettingError: both are the same trial.
    """
    if first == second:
        raise SettingError(f"'{first}' was given twice.", hint="Name two different trials.")
    results = ledger.results(run_id=run_id)
    answers = [_answers(ledger, results, trial, split) for trial in (first, second)]
    pairs = _paired(answers[0], answers[1])
    if not pairs:
        raise LedgerError(f"'{first}' and '{second}' have no {split} example in common.", where=ledger.location)
    cells = [(one.correct, other.correct) for one, other in pairs]
    texts = answers_of(results) == "text"
    metric = METRICS[results.primary if texts else "accuracy"]
    make = text_sample if texts else _sample
    samples = [make([pair[side] for pair in pairs]) for side in (0, 1)]
    tested = evaluator.compare(metric.name, samples[:1], samples[1:])
    scores = [metric.of_rows(sample).tolist() for sample in samples]
    differing = [
        _difference(*pair, *(both if texts else (None, None)))
        for pair, both in zip(pairs, zip(*scores, strict=True), strict=True)
        if pair[0].answer != pair[1].answer
    ]
    if texts:
        differing.sort(key=lambda row: -abs((row.first.score or 0.0) - (row.second.score or 0.0)))
    gains = [(one - other) * (1 if metric.higher_is_better else -1) for one, other in zip(*scores, strict=True)]
    return TrialComparison(
        first=first,
        second=second,
        split=split,
        run=results.run.id,
        limit=results.run.limit,
        weights=(_weights(results, first), _weights(results, second)),
        counts=(_counts(results, first, split), _counts(results, second, split)),
        max_new_tokens=max_new_tokens_of(results),
        n=len(pairs),
        both_right=cells.count((True, True)),
        only_first=cells.count((True, False)),
        only_second=cells.count((False, True)),
        neither=cells.count((False, False)),
        metric=metric.name,
        figures=(metric.point(samples[0]), metric.point(samples[1])),
        better=(sum(gain > 0 for gain in gains), sum(gain < 0 for gain in gains)),
        difference=tested.difference,
        low=tested.low,
        high=tested.high,
        p_value=tested.p_value,
        test=tested.test,
        differing=differing,
    )


def _weights(results: Results, trial: str) -> str | None:
    return results.candidate(_named(results, trial).candidate).weights


def _answers(ledger: Ledger, results: Results, trial: str, split: str) -> list[AnswerRecord]:
    candidates = {candidate.id: candidate for candidate in results.candidates}
    if trial in candidates:
        replicates = [replicate.id for replicate in candidates[trial].trials]
        if replicates != [trial] and len(replicates) > 1:
            raise LedgerError(
                f"'{trial}' has {len(replicates)} replicates.", hint=f"Name one: {', '.join(replicates)}."
            )
        trial = replicates[0]
    return ledger.answers(trial, split=split, run_id=results.run.id)


def _counts(results: Results, trial: str, split: str) -> CountsRecord | None:
    return _named(results, trial).counts.get(split)


def _named(results: Results, name: str) -> TrialRecord:
    """The trial of that name, or the only replicate of the candidate of that name."""
    return next(each for each in results.trials if name in (each.id, each.candidate))


def _paired(first: Sequence[AnswerRecord], second: Sequence[AnswerRecord]) -> list[tuple[AnswerRecord, AnswerRecord]]:
    """The answers of both to the same rows, in the split's order."""
    others = {answer.row_id: answer for answer in second}
    return [(answer, others[answer.row_id]) for answer in first if answer.row_id in others]


def _sample(answers: Sequence[AnswerRecord]) -> Sample:
    """Right and wrong answers as metrics want them: it only counts whether an answer is the target."""
    return Sample(
        labels=("right", "wrong"),
        targets=("right",) * len(answers),
        predictions=tuple("right" if row.correct else "wrong" for row in answers),
        clusters=_clusters(answers),
    )


def text_sample(answers: Sequence[AnswerRecord]) -> Sample:
    """Texts beside their references, as metrics want them."""
    return Sample(
        labels=(),
        targets=tuple(row.target for row in answers),
        predictions=tuple(row.answer for row in answers),
        clusters=_clusters(answers),
    )


def _clusters(answers: Sequence[AnswerRecord]) -> tuple[str, ...] | None:
    return clusters_of([row.input for row in answers], [row.group for row in answers])


def _difference(
    first: AnswerRecord, second: AnswerRecord, first_score: float | None, second_score: float | None
) -> Difference:
    replies = reply(first, first_score), reply(second, second_score)
    return Difference(first.row_id, first.position, first.input, first.target, *replies)


def reply(answer: AnswerRecord, score: float | None = None) -> Reply:
    """An answer with the raw output behind it."""
    text = None if answer.text == answer.answer else answer.text  # a baseline's text is its label
    return Reply(answer.answer, answer.correct, text, answer.probabilities, answer.error, score)
