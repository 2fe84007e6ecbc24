"""The plan: trials, the steps that they depend on, and which of these the ledger has already.

Equal steps are one step: three rules share a prediction, three trials a tuning. Steps are ordered depth first, trial by
trial, so that everything with one model is done while it is loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from germinal.ledger import EstimateRecord, Ledger
from germinal.project.file.config import Limits, ProjectConfig
from germinal.project.plan.ends import ends_by_model
from germinal.project.plan.estimates import estimate_trials
from germinal.project.plan.resolver import Resolved, Resolver, State
from germinal.project.plan.step_graph import StepGraph
from germinal.project.plan.trials import Candidate, Comparison, Trial
from germinal.project.steps.base import Step


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """A step and what a run will do about it.

    Attributes:
        resolved_key: None while it depends on steps that are not done.
        trials: The trials that depend on it.
    """

    name: str
    kind: str
    state: State
    recipe_key: str
    resolved_key: str | None
    trials: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """Everything that a run will do.

    Attributes:
        detectable_difference: See `StepGraph.detectable`; None also while the number of dev rows is not known.
        estimates: By trial; trials of models that are not fetched yet have none.
        ends: Model -> the tokens that end its generated answers; models that are not fetched yet have none.
    """

    trials: list[Trial]
    candidates: list[Candidate]
    steps: list[PlannedStep]
    comparisons: list[Comparison]
    detectable_difference: float | None
    estimates: dict[str, EstimateRecord] = field(default_factory=dict)
    ends: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Values ready for JSON, in a fixed order."""
        estimates = {trial: asdict(estimate) for trial, estimate in self.estimates.items()}
        return {
            "trials": [{**asdict(trial), "estimate": estimates.get(trial.id)} for trial in self.trials],
            "steps": [asdict(step) for step in self.steps],
            "comparisons": [asdict(comparison) for comparison in self.comparisons],
            "detectable_difference": self.detectable_difference,
            "ends": {model: list(pieces) for model, pieces in self.ends.items()},
        }


def make_plan(config: ProjectConfig, ledger: Ledger, folder: Path, artifacts: Path, limit: int | None = None) -> Plan:
    """What a run would do now.

    Raises:
        DataError: the data file is missing or malformed.
        UnsupportedError: no project can have this task yet, or a model cannot do what is asked of it.
    """
    graph = StepGraph(config, limit)
    resolver = Resolver(ledger, folder, artifacts)
    steps = resolver.in_order([graph.choose])
    standing = _trials_by_step(graph, resolver.recipes.key)
    planned = [_planned(step, resolver, standing) for step in steps]
    planned += _planned_test(graph, resolver)
    units = _dev_units(config, resolver.look(graph.data), limit)
    return Plan(
        trials=graph.trials,
        candidates=graph.candidates,
        steps=planned,
        comparisons=graph.comparisons,
        detectable_difference=graph.detectable(units) if units else None,
        estimates=estimate_trials(graph, resolver, ledger, folder),
        ends=ends_by_model(graph.trials, folder, chat=config.adapt.prompt.chat),
    )


def _dev_units(config: ProjectConfig, data: Resolved | None, limit: int | None) -> int | None:
    """How many independent units dev has; None where groups, or rows of which it is a share, are not counted yet."""
    if data and data.record:
        return int(data.record.values["splits"]["dev"]["units"])
    asked = config.scope.split.dev
    if isinstance(asked, float) or config.scope.group is not None:
        return None
    return asked if limit is None else min(asked, limit)


def _planned(step: Step, resolver: Resolver, standing: Mapping[str, tuple[str, ...]]) -> PlannedStep:
    recipe = resolver.recipes.key(step)
    resolved = resolver.look(step)
    key = resolved.key.digest if resolved else None
    return PlannedStep(step.name, step.kind, resolver.state(step), recipe, key, standing.get(recipe, ()))


def _planned_test(graph: StepGraph, resolver: Resolver) -> Iterator[PlannedStep]:
    """The steps on test: those of the baselines and, once it is known, of the winner."""
    chosen = resolver.look(graph.choose)
    trials = graph.tested_trials(chosen.record if chosen else None)
    by_step: dict[str, list[str]] = {}
    steps: list[Step] = []
    for trial in trials:
        for step in graph.steps(trial, "test").values():
            by_step.setdefault(resolver.recipes.key(step), []).append(trial.id)
            if getattr(step, "split", None) == "test":
                steps.append(step)
    if chosen is not None and chosen.record is not None and graph.config.scope.limits != Limits():
        steps.append(graph.clock(graph.winner(chosen.record)))
    for step in steps:
        yield _planned(step, resolver, {recipe: tuple(ids) for recipe, ids in by_step.items()})
    if chosen is None or chosen.record is None:
        yield PlannedStep("predict and measure test: the winner", "predict", "depends", "", None, ())


def _trials_by_step(graph: StepGraph, key: Callable[[Step], str]) -> dict[str, tuple[str, ...]]:
    standing: dict[str, list[str]] = {}
    for trial in graph.trials:
        for step in {key(step): step for step in graph.steps(trial, "dev").values()}.values():
            standing.setdefault(key(step), []).append(trial.id)
    standing[key(graph.choose)] = [trial.id for trial in graph.trials]
    return {recipe: tuple(ids) for recipe, ids in standing.items()}
