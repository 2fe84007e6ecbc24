"""The leaderboard as data: what one run found, the best first, from the ledger alone.

The same project, data and weights give the same leaderboard, wherever and however often they are run, but for its
fields `run` and `timings`, which depend on the machine and the time.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

from germinal.errors import LedgerError, nearest
from germinal.evaluation.metric import Answers
from germinal.evaluation.scripts import cautions
from germinal.ledger import (
    CandidateRecord,
    ChoiceRecord,
    ComparisonRecord,
    CountsRecord,
    Environment,
    Figure,
    Ledger,
    LimitRecord,
    MetricRecord,
    Results,
    RunRecord,
    SplitRecord,
    Spread,
    SuccessRecord,
)
from germinal.project.file.tasks import TaskDefaults, task_named

if TYPE_CHECKING:
    from pydantic import TypeAdapter

Kind = Literal["prompted", "tuned", "baseline"]


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokens of a candidate's answers to dev, over all its replicates; a prefix that prompts share counts once."""

    total: int
    prompt: int
    generated: int
    scored: int
    per_example: float


@dataclass(frozen=True, slots=True)
class Row:
    """One candidate.

    Attributes:
        label: Its id without the parts that all candidates share.
        place: By the primary metric on dev, from 1.
        replicates: How many choices of few-shot examples its figures are means over.
        dev: Metric name -> figure.
        test: The same on test, for the winner and the baselines only.
        spread: Metric name -> spread over the replicates, where there are several.
        comparisons: The paired tests of which it is the first side.
        tied: It cannot be told apart from the best.
        winner: The run proposes it.
        work: Tokens x parameters of one answer.
        weights: What its model computes with, and how the file holds it if that differs: "float32 (from Q4_1)".
        cut: How many of its texts on dev ended at max_new_tokens, over all replicates; None for labels.
        counts: How many of its answers to dev cannot count, and why; None where an older run did not count them.
    """

    id: str
    label: str
    kind: Kind
    place: int
    model: str | None
    shots: int | None
    rule: str | None
    adapter: str | None
    precision: str | None
    parameters: int | None
    replicates: int
    dev: dict[str, Figure]
    test: dict[str, Figure]
    spread: dict[str, Spread]
    comparisons: list[ComparisonRecord]
    tied: bool
    winner: bool
    tokens: Tokens
    work: float
    cut: int | None = None
    weights: str | None = None
    counts: CountsRecord | None = None

    @property
    def answered(self) -> bool:
        """Whether at least half of its answers can count."""
        return self.counts is None or 2 * self.counts.lost <= self.counts.answers

    def against(self, role: str) -> ComparisonRecord | None:
        """Its paired test against the best "baseline", the untuned "zero-shot" or the observed "best", or None."""
        return next((comparison for comparison in self.comparisons if comparison.role == role), None)


@dataclass(frozen=True, slots=True)
class CostEstimate:
    """What the plan estimated for a candidate, and measured / estimated (None until it is measured)."""

    seconds: float
    memory_bytes: int
    tokens: int
    basis: str
    seconds_factor: float | None
    memory_factor: float | None


@dataclass(frozen=True, slots=True)
class Timing:
    """What a candidate took to answer dev, on the machine that ran it: all its replicates, and their highest peak."""

    seconds: float
    by_step: dict[str, float]
    peak_memory_bytes: int | None
    memory_note: str
    estimate: CostEstimate | None


@dataclass(frozen=True, slots=True)
class RunInfo:
    """The run behind a leaderboard: when and where it happened, and what to know before comparing its rows."""

    id: int
    started_at: datetime
    finished_at: datetime | None
    seconds: float | None
    device: str
    germinal: str
    limit: int | None
    limits: list[LimitRecord]
    test_looks: int
    warnings: list[str]


@dataclass(frozen=True, slots=True)
class Leaderboard:
    """What one run found, the best candidate first; `answers` says whether the candidates give labels or texts.

    `max_new_tokens` is the project's; None where labels have room for the longest of them.
    """

    use_case: str
    answers: Answers
    metrics: list[MetricRecord]
    splits: dict[str, SplitRecord]
    rows: list[Row]
    choice: ChoiceRecord | None
    success: list[SuccessRecord]
    detectable_difference: float | None
    max_new_tokens: int | None
    run: RunInfo
    timings: dict[str, Timing]

    @property
    def is_trial_run(self) -> bool:
        """Whether only the first rows of dev and of test were answered (--limit)."""
        return self.run.limit is not None

    @property
    def primary(self) -> str:
        """The metric by which the winner is chosen."""
        return self.metrics[0].name

    @property
    def winner(self) -> Row | None:
        """The row of the winner, or None when the run chose nothing."""
        return next((row for row in self.rows if row.winner), None)

    @property
    def tested(self) -> list[Row]:
        """The rows measured on test: the winner, then the baselines."""
        return sorted((row for row in self.rows if row.test), key=lambda row: not row.winner)

    def row(self, candidate: str) -> Row:
        """The row of a candidate's id.

        Raises:
            LedgerError: there is no such candidate; names the nearest.
        """
        found = {row.id: row for row in self.rows}
        if candidate not in found:
            raise LedgerError(f"there is no candidate '{candidate}'.", hint=nearest(candidate, list(found)))
        return found[candidate]

    def to_json(self) -> dict[str, Any]:
        """Values ready for JSON, in a fixed order."""
        dumped: dict[str, Any] = _adapter().dump_python(self, mode="json")
        return dumped

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> Leaderboard:
        """The inverse of `to_json`."""
        return _adapter().validate_python(value)


@cache
def _adapter() -> TypeAdapter[Leaderboard]:
    from pydantic import TypeAdapter

    return TypeAdapter(Leaderboard)


def leaderboard(ledger: Ledger, run_id: int | None = None) -> Leaderboard:
    """The leaderboard of a run, read from the ledger alone.

    Args:
        ledger: The project's.
        run_id: Of the run; by default the latest finished one over all rows, see `Ledger.results`.

    Raises:
        LedgerError: there is no such run, or none has finished.
    """
    results = ledger.results(run_id=run_id)
    primary = results.metrics[0]
    labels = short_labels(results.candidates)
    ordered = sorted(results.candidates, key=lambda candidate: _rank(candidate, primary))
    rows = [_row(candidate, place, labels, results) for place, candidate in enumerate(ordered, start=1)]
    return Leaderboard(
        use_case=str(results.run.config.get("scope", {}).get("use_case", "")),
        answers=answers_of(results),
        metrics=list(results.metrics),
        splits=dict(results.splits),
        rows=rows,
        choice=results.choice,
        success=list(results.success),
        detectable_difference=results.detectable_difference,
        max_new_tokens=max_new_tokens_of(results),
        run=_run_info(results, ledger, None if run_id is not None else _later(results.run, ledger)),
        timings={candidate.id: _timing(candidate) for candidate in ordered},
    )


def max_new_tokens_of(results: Results) -> int | None:
    """Most tokens of a generated answer; None where labels have room for the longest of them."""
    apply = results.run.config.get("apply")
    generation = apply.get("generation") if isinstance(apply, Mapping) else None
    found = generation.get("max_new_tokens") if isinstance(generation, Mapping) else None
    return found if isinstance(found, int) else _task_of(results).max_new_tokens


def answers_of(results: Results) -> Answers:
    """Whether a run's candidates gave labels or texts."""
    return _task_of(results).answers


def _task_of(results: Results) -> TaskDefaults:
    return task_named(str(results.run.config.get("scope", {}).get("task", "classification")))


def short_labels(candidates: Sequence[CandidateRecord]) -> dict[str, str]:
    """Candidate id -> name, without the parts that all prompted models of the table have in common."""
    parts = {candidate.id: candidate.id.split("/") for candidate in candidates if candidate.rule is not None}
    common = set.intersection(*map(set, parts.values())) if len(parts) > 1 else _model_parts(candidates)
    if any(set(split) <= common for split in parts.values()):  # one has no part of its own but how it was prompted
        common = {part for part in common if not part.endswith("-shot")}
    short = {id_: " ".join(part for part in split if part not in common) for id_, split in parts.items()}
    if len(set(short.values())) < len(short) or "" in short.values():
        short = {}
    return {candidate.id: short.get(candidate.id, candidate.id) for candidate in candidates}


def _model_parts(candidates: Sequence[CandidateRecord]) -> set[str]:
    return {part for candidate in candidates if candidate.model for part in candidate.model.split("/")}


def kind_of(candidate: CandidateRecord) -> Kind:
    """Whether a candidate is prompted, tuned or a baseline."""
    if candidate.kind == "baseline":
        return "baseline"
    return "tuned" if candidate.adapter else "prompted"


def _rank(candidate: CandidateRecord, primary: MetricRecord) -> tuple[float, float, str]:
    figure = candidate.figures.get("dev", {}).get(primary.name)
    if figure is None:
        return (float("inf"), candidate.work, candidate.id)
    return (-figure.value if primary.higher_is_better else figure.value, candidate.work, candidate.id)


def _row(candidate: CandidateRecord, place: int, labels: Mapping[str, str], results: Results) -> Row:
    choice = results.choice
    cost = candidate.cost
    return Row(
        id=candidate.id,
        label=labels[candidate.id],
        kind=kind_of(candidate),
        place=place,
        model=candidate.model,
        shots=candidate.shots,
        rule=candidate.rule,
        adapter=candidate.adapter,
        precision=candidate.precision,
        parameters=candidate.parameters,
        replicates=len(candidate.trials),
        dev=_ordered(candidate.figures.get("dev", {}), results),
        test=_ordered(candidate.figures.get("test", {}), results),
        spread={
            metric.name: candidate.spread[metric.name] for metric in results.metrics if metric.name in candidate.spread
        },
        comparisons=[comparison for comparison in results.comparisons if comparison.first == candidate.id],
        tied=choice is not None and candidate.id in choice.tied,
        winner=choice is not None and candidate.id == choice.winner,
        tokens=Tokens(
            cost.tokens, cost.prompt_tokens, cost.generated_tokens, cost.scored_tokens, candidate.tokens_per_example
        ),
        work=candidate.work,
        cut=candidate.cut,
        counts=candidate.counts,
        weights=candidate.weights,
    )


def _ordered(figures: Mapping[str, Figure], results: Results) -> dict[str, Figure]:
    """Figures in the order in which the project names its metrics."""
    return {metric.name: figures[metric.name] for metric in results.metrics if metric.name in figures}


def _timing(candidate: CandidateRecord) -> Timing:
    cost = candidate.cost
    return Timing(cost.seconds, dict(cost.by_step), cost.peak_memory_bytes, cost.memory_note, _cost_estimate(candidate))


def _cost_estimate(candidate: CandidateRecord) -> CostEstimate | None:
    """The estimates of the replicates together: the sum of seconds and tokens, the highest memory."""
    estimates = [trial.estimate for trial in candidate.trials if trial.estimate is not None]
    if not estimates or len(estimates) < len(candidate.trials):
        return None
    seconds = sum(estimate.seconds for estimate in estimates)
    highest = max(estimates, key=lambda estimate: estimate.memory_bytes)
    measured = [
        estimate.seconds * estimate.seconds_factor for estimate in estimates if estimate.seconds_factor is not None
    ]
    complete = len(measured) == len(estimates) and seconds > 0
    return CostEstimate(
        seconds=seconds,
        memory_bytes=highest.memory_bytes,
        tokens=sum(estimate.tokens for estimate in estimates),
        basis=highest.basis,
        seconds_factor=sum(measured) / seconds if complete else None,
        memory_factor=highest.memory_factor,
    )


def _later(run: RunRecord, ledger: Ledger) -> str | None:
    """A sentence on the runs after this one, which are not shown."""
    later = [each for each in ledger.runs() if each.id > run.id]
    if not later:
        return None
    named = ", ".join(f"{each.id} ({_status(each)})" for each in later[:4])
    over = "" if run.limit is not None else " over all rows"
    return f"Shown is run {run.id}, the last one that finished{over}. Later: {named}."


def _status(run: RunRecord) -> str:
    limited = "" if run.limit is None else f"--limit {run.limit}"
    return ", ".join(part for part in (limited, "" if limited and run.status == "finished" else run.status) if part)


def _run_info(results: Results, ledger: Ledger, later: str | None) -> RunInfo:
    run = results.run
    return RunInfo(
        id=run.id,
        started_at=run.started_at,
        finished_at=run.finished_at,
        seconds=run.seconds,
        device=run.environment.device,
        germinal=run.environment.germinal,
        limit=run.limit,
        limits=list(results.limits),
        test_looks=results.test_looks,
        warnings=[*_warnings(results, ledger), *([later] if later else [])],
    )


def _warnings(results: Results, ledger: Ledger) -> list[str]:
    warnings = []
    if results.run.limit is not None:
        warnings.append(
            f"Only the first {results.run.limit} rows of dev and of test were answered (--limit): a trial run, whose "
            "verdicts are not those of the project."
        )
    keys = {trial.id: set(trial.steps.values()) for trial in results.trials}
    environments = {key: ledger.step(key).environment for key in sorted(set().union(*keys.values()))}
    by_trial = {trial: [environments[key] for key in found] for trial, found in keys.items()}
    return warnings + _cautions(results, ledger) + mixed_environments(by_trial)


def _cautions(results: Results, ledger: Ledger) -> list[str]:
    """What the metrics miss in references that are texts."""
    measured = next((trial.id for trial in results.trials if trial.figures.get("dev")), None)
    if measured is None or answers_of(results) == "labels":
        return []
    references = (answer.target for answer in ledger.answers(measured, run_id=results.run.id))
    return cautions([metric.name for metric in results.metrics], references)


def mixed_environments(by_trial: Mapping[str, Iterable[Environment]]) -> list[str]:
    """A sentence for the device, germinal and each library that was not the same for all trials."""
    seen: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for trial, environments in by_trial.items():
        for environment in environments:
            values = {"device": environment.device, "germinal": environment.germinal, **environment.versions}
            for name, value in values.items():
                seen[name][value].add(trial)
    sentences = []
    for name, trials_of in sorted(seen.items()):
        if len(trials_of) > 1:
            counts = (
                f"{value} ({len(trials)} of {len(by_trial)} trials)" for value, trials in sorted(trials_of.items())
            )
            what = "devices" if name == "device" else f"versions of {name}"
            sentences.append(f"Different {what} took part in what is compared here: {', '.join(counts)}.")
    return sentences
