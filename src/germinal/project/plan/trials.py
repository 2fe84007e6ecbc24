"""The trials of a project, and their names.

A trial is model x precision x number of shots x choice of examples x rule x adapter. Trials that differ only in the
choice of examples are replicates of one candidate. Names are paths: `smollm2-135m-instruct/4-shot/calibrated/seed-1`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from germinal.predictors.answers import Rule
from germinal.project.file.config import ProjectConfig
from germinal.project.steps.model import short_name

HEAD = "head"
"""`Trial.adapter` of a model with a classification head, which reads inputs without prompt and rule."""

ComparisonRole = Literal["baseline", "zero-shot", "best"]


@dataclass(frozen=True, slots=True)
class Trial:
    """One thing that is measured. A baseline has no model, and a model with a head no shots and no rule."""

    id: str
    candidate: str
    model: str | None = None
    baseline: str | None = None
    shots: int | None = None
    shot_seed: int | None = None
    rule: Rule | None = None
    adapter: str | None = None
    precision: str | None = None

    @property
    def kind(self) -> Literal["model", "baseline"]:
        return "baseline" if self.baseline else "model"

    def spec(self) -> dict[str, Any]:
        """The trial as plain values, as the ledger keeps it."""
        fields = ("kind", "model", "baseline", "shots", "shot_seed", "rule", "adapter", "precision")
        return {name: getattr(self, name) for name in fields}


@dataclass(frozen=True, slots=True)
class Candidate:
    """What could be shipped: trials that differ only in the choice of examples."""

    id: str
    trials: tuple[Trial, ...]

    @property
    def first(self) -> Trial:
        """One of the replicates, which are alike in all but the choice of examples."""
        return self.trials[0]


@dataclass(frozen=True, slots=True)
class Comparison:
    """A paired test that the plan declares before anything is measured.

    Attributes:
        first: A candidate.
        second: Another one; None is the baseline that is best on dev.
        role: What `second` is to `first`.
    """

    first: str
    second: str | None
    role: ComparisonRole


def trials_of(config: ProjectConfig) -> list[Trial]:
    """All trials of a project: baselines first, then model by model, tuned ones last."""
    trials = [Trial(name, name, baseline=name) for name in config.select.baselines]
    names = dict(zip(config.select.models, _model_names(config.select.models), strict=True))
    for model in config.select.models:
        for precision in config.apply.precisions:
            start = [names[model]] + ([precision] if len(config.apply.precisions) > 1 else [])
            if model in config.headed:
                trials.append(_headed(model, precision, start))
                continue
            trials += _prompted(config, model, precision, start)
            if config.adapt.lora:
                trials += _tuned(config, model, precision, start)
    return trials


def candidates_of(trials: Sequence[Trial]) -> list[Candidate]:
    """Trials by candidate, in the order of the plan."""
    members: dict[str, list[Trial]] = {}
    for trial in trials:
        members.setdefault(trial.candidate, []).append(trial)
    return [Candidate(name, tuple(replicates)) for name, replicates in members.items()]


def comparisons_of(candidates: Sequence[Candidate]) -> list[Comparison]:
    """The tests to declare: each candidate with a model against the best baseline and against untuned zero-shot.

    Zero-shot is that of the same model, precision and rule, so that the difference is due to examples or tuning.
    Zero-shot itself is compared with zero-shot under the first rule: the difference is due to the rule.
    """
    declared: list[Comparison] = []
    has_baseline = any(candidate.first.baseline for candidate in candidates)
    zero_shots = [
        candidate for candidate in candidates if candidate.first.shots == 0 and candidate.first.adapter is None
    ]
    for candidate in candidates:
        if candidate.first.baseline:
            continue
        if has_baseline:
            declared.append(Comparison(candidate.id, None, "baseline"))
        if reference := _reference(candidate, zero_shots):
            declared.append(Comparison(candidate.id, reference.id, "zero-shot"))
    return declared


def _reference(candidate: Candidate, zero_shots: Sequence[Candidate]) -> Candidate | None:
    first = candidate.first
    same_model = [
        zero for zero in zero_shots if (zero.first.model, zero.first.precision) == (first.model, first.precision)
    ]
    if candidate in same_model:
        return same_model[0] if candidate != same_model[0] else None
    return next((zero for zero in same_model if zero.first.rule == first.rule), None)


def _prompted(config: ProjectConfig, model: str, precision: str, start: list[str]) -> Iterator[Trial]:
    prompt = config.adapt.prompt
    for shots in prompt.shots:
        for rule in prompt.rules:
            candidate = "/".join([*start, f"{shots}-shot" if shots else "zero-shot", rule])
            trial = Trial(candidate, candidate, model=model, shots=shots, rule=rule, precision=precision)
            if not shots:
                yield trial
                continue
            for seed in prompt.shot_seeds:
                yield replace(trial, id=f"{candidate}/seed-{seed}", shot_seed=seed)


def _tuned(config: ProjectConfig, model: str, precision: str, start: list[str]) -> Iterator[Trial]:
    assert config.adapt.lora is not None
    adapter = f"lora-r{config.adapt.lora.rank}"
    for rule in config.adapt.prompt.rules:
        name = "/".join([*start, adapter, "zero-shot", rule])
        yield Trial(name, name, model=model, shots=0, rule=rule, adapter=adapter, precision=precision)


def _headed(model: str, precision: str, start: list[str]) -> Trial:
    name = "/".join([*start, HEAD])
    return Trial(name, name, model=model, adapter=HEAD, precision=precision)


def _model_names(references: Sequence[str]) -> list[str]:
    """Short names, all different: the last part of a reference, or all of it where that part is taken."""
    names: list[str] = []
    for reference in references:
        short = short_name(reference)
        names.append(short if short not in names else reference.replace("/", "-"))
    return names
