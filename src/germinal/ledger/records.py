"""What the ledger returns: frozen dataclasses without a session or lazy loading, safe to keep and share by threads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple, dataclass, field
from datetime import datetime
from operator import add
from pathlib import Path
from typing import Any, Literal

from germinal.errors import LedgerError, nearest

Split = Literal["train", "dev", "test"]


@dataclass(frozen=True, slots=True)
class Environment:
    """The machine and software something ran on: recorded with every step, never part of a key."""

    germinal: str
    python: str
    platform: str
    device: str
    git_commit: str | None
    git_dirty: bool
    versions: dict[str, str]


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One `germinal run`, finished or not.

    Attributes:
        limit: At most so many rows of dev and of test were answered (--limit): a trial run. None is all rows.
    """

    id: int
    started_at: datetime
    finished_at: datetime | None
    status: str
    limit: int | None
    overrides: list[str]
    config: dict[str, Any]
    environment: Environment

    @property
    def seconds(self) -> float | None:
        """Duration, or None if the run has not ended."""
        return (self.finished_at - self.started_at).total_seconds() if self.finished_at else None


@dataclass(frozen=True, slots=True)
class MetricRecord:
    """A metric and its direction."""

    name: str
    higher_is_better: bool


@dataclass(frozen=True, slots=True)
class SplitRecord:
    """How many rows a split holds, by label, and how many independent units: groups, or rows that no other repeats."""

    rows: int
    labels: dict[str, int]
    units: int | None = None


@dataclass(frozen=True, slots=True)
class Figure:
    """A measured value with its confidence interval."""

    value: float
    low: float | None
    high: float | None
    n: int
    method: str
    level: float = 0.95


@dataclass(frozen=True, slots=True)
class Spread:
    """How much a metric varies over the replicates of a candidate (its choices of examples)."""

    low: float
    high: float
    deviation: float
    n: int


@dataclass(frozen=True, slots=True)
class Cost:
    """What a trial cost on dev.

    Rules that share a predict step share its seconds. Tokens are those that the trial's own rule sends through the
    network: the prompts, with a shared prefix counted once, and the generated or scored tokens except the last of each
    continuation.
    """

    seconds: float = 0.0
    tokens: int = 0
    prompt_tokens: int = 0
    generated_tokens: int = 0
    scored_tokens: int = 0
    peak_memory_bytes: int | None = None
    memory_note: str = ""
    by_step: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CountsRecord:
    """Numbers of answers. Each answer that cannot count is in one of the kinds, the first that fits.

    Attributes:
        answers: All of them.
        failed: There was no output, such as for an input that the model cannot read.
        cut: The text ended at max_new_tokens; with labels, before there was one to read.
        empty: The text is blank.
        unparsable: The text is whole, and holds no label where one has to stand.
    """

    answers: int
    failed: int = 0
    cut: int = 0
    empty: int = 0
    unparsable: int = 0

    @property
    def lost(self) -> int:
        """How many cannot count, whatever the reason."""
        return self.failed + self.cut + self.empty + self.unparsable

    def __add__(self, other: CountsRecord) -> CountsRecord:
        return CountsRecord(*map(add, astuple(self), astuple(other)))


@dataclass(frozen=True, slots=True)
class EstimateRecord:
    """The plan's estimate of a trial, and the ratio of the measured to the estimated figures.

    Attributes:
        stored_precision: How the model's file holds its weights: "Q4_1", "float32", ...; None in older ledgers.
    """

    parameters: int
    weight_bytes: int
    cache_bytes: int
    activation_bytes: int
    memory_bytes: int
    seconds: float
    tokens: int
    basis: str
    memory_factor: float | None = None
    seconds_factor: float | None = None
    stored_precision: str | None = None


Figures = dict[str, dict[str, Figure]]


@dataclass(frozen=True, slots=True)
class TrialRecord:
    """One replicate: a candidate with its choice of examples.

    Attributes:
        counts: By split, how many of its answers cannot count; none where an older run did not count them.
    """

    id: str
    candidate: str
    shot_seed: int | None
    position: int
    figures: Figures
    cost: Cost
    estimate: EstimateRecord | None
    steps: dict[str, str]
    counts: dict[str, CountsRecord] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CandidateRecord:
    """Something that could be deployed: model, prompt, rule, adapter and precision; or a baseline.

    Attributes:
        weights: What its model computes with, and how the file holds it if that differs: "float32 (from Q4_1)".
        cut: Number of texts generated on dev, over all replicates, with finish reason "length"; None for labels.
        counts: How many of its answers to dev cannot count, over all replicates; None where that was not counted.
    """

    id: str
    kind: str
    model: str | None
    baseline: str | None
    shots: int | None
    rule: str | None
    adapter: str | None
    precision: str | None
    parameters: int | None
    tokens_per_example: float
    work: float
    figures: Figures
    spread: dict[str, Spread]
    trials: list[TrialRecord]
    cost: Cost
    cut: int | None = None
    counts: CountsRecord | None = None
    weights: str | None = None


@dataclass(frozen=True, slots=True)
class ComparisonRecord:
    """A paired test of two candidates on the same dev rows.

    Attributes:
        exploratory: Whether it compares with the observed best, which cannot be declared in advance. Exploratory tests
            are corrected for multiple comparisons as a family of their own.
    """

    first: str
    second: str
    metric: str
    difference: float
    low: float | None
    high: float | None
    p_value: float
    p_adjusted: float | None
    test: str
    role: str
    exploratory: bool
    n: int

    @property
    def p(self) -> float:
        """The p-value to read: corrected where the test was one of several, else as it was computed."""
        return self.p_value if self.p_adjusted is None else self.p_adjusted


@dataclass(frozen=True, slots=True)
class ChoiceRecord:
    """Which candidate won, and why."""

    metric: str
    best: str
    tied: list[str]
    winner: str
    winner_trial: str
    reason: str


@dataclass(frozen=True, slots=True)
class SuccessRecord:
    """Whether a success criterion of [scope] was reached on test."""

    metric: str
    threshold: float
    verdict: Literal["reached", "not shown", "missed"]
    figure: Figure | None


@dataclass(frozen=True, slots=True)
class LimitRecord:
    """Whether the winner keeps within a limit of [scope] on the machine of this run; None where unknown."""

    name: str
    limit: float
    measured: float | None
    kept: bool | None


@dataclass(frozen=True, slots=True)
class AnswerRecord:
    """The answer of one trial to one row."""

    row_id: str
    position: int
    input: str
    target: str
    group: str | None
    answer: str | None
    text: str | None
    probabilities: dict[str, float] | None
    error: str | None
    correct: bool
    output: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class PromptRecord:
    """A prompt exactly as the model saw it."""

    row_id: str
    text: str
    tokens: int
    dropped_examples: int
    truncated_tokens: int


@dataclass(frozen=True, slots=True)
class StepRecord:
    """One step, by its resolved key, with the parts of its resolved key and its recipe key."""

    key: str
    recipe_key: str
    kind: str
    name: str
    status: str
    parts: dict[str, Any]
    recipe_parts: dict[str, Any]
    outputs: dict[str, str]
    values: dict[str, Any]
    artifact: Path | None
    seconds: float
    peak_memory_bytes: int | None
    memory_note: str
    environment: Environment
    started_at: datetime
    finished_at: datetime | None
    error: str | None


@dataclass(frozen=True, slots=True)
class Prediction:
    """One stored row: the output of a model with an adapter for one sequence of token ids.

    Attributes:
        key: Digest of weights, adapter, token ids, generation settings or scored continuations, precision and seed.
        output: The part of the answer that this kind of row holds, as JSON.
        seconds: This row's share of the time of the batch it was computed in.
        peak_memory_bytes: Peak memory of the process during that batch, or None if unknown.
    """

    key: str
    kind: str
    output: Mapping[str, Any]
    seconds: float
    peak_memory_bytes: int | None


@dataclass(frozen=True, slots=True)
class PredictionLink:
    """Which stored rows answer one row of a split in one predict step."""

    row_id: str
    position: int
    generation_key: str | None
    score_key: str | None


@dataclass(frozen=True, slots=True)
class Results:
    """Everything that one run found, under that run's names."""

    run: RunRecord
    candidates: list[CandidateRecord]
    comparisons: list[ComparisonRecord]
    choice: ChoiceRecord | None
    success: list[SuccessRecord]
    test_looks: int
    detectable_difference: float | None
    splits: dict[str, SplitRecord]
    metrics: list[MetricRecord]
    limits: list[LimitRecord] = field(default_factory=list)

    @property
    def primary(self) -> str:
        """The metric by which the winner is chosen."""
        return self.metrics[0].name

    @property
    def trials(self) -> list[TrialRecord]:
        """All trials, in the order of the plan."""
        return sorted(
            (trial for candidate in self.candidates for trial in candidate.trials), key=lambda trial: trial.position
        )

    def trial(self, trial_id: str) -> TrialRecord:
        """The trial of that name, or of the candidate's only replicate.

        Raises:
            LedgerError: no such trial; the hint names the nearest.
        """
        by_id = {trial.id: trial for trial in self.trials}
        if trial_id not in by_id:
            raise LedgerError(
                f"there is no trial '{trial_id}' in run {self.run.id}.", hint=nearest(trial_id, list(by_id))
            )
        return by_id[trial_id]

    def candidate(self, candidate_id: str) -> CandidateRecord:
        """The candidate of that name.

        Raises:
            LedgerError: no such candidate; the hint names the nearest.
        """
        by_id = {candidate.id: candidate for candidate in self.candidates}
        if candidate_id not in by_id:
            raise LedgerError(
                f"there is no candidate '{candidate_id}' in run {self.run.id}.", hint=nearest(candidate_id, list(by_id))
            )
        return by_id[candidate_id]
