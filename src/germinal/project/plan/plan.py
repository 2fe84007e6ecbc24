"""The plan: trials, the steps that they stand on, and which of these the ledger has, before anything is done.

Equal steps are one step: three rules share a prediction, three trials a tuning. The order is depth first, trial by
trial, so that what belongs to one model is done while it is loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from germinal.ledger import EstimateRecord, Ledger, StepRecord
from germinal.project.file.config import Limits, ProjectConfig
from germinal.project.plan.step_graph import StepGraph
from germinal.project.plan.trials import Candidate, Comparison, Trial
from germinal.project.steps.base import Step
from germinal.project.steps.keys import Key, RecipeKeys, resolved_key

State = Literal["cached", "run", "depends"]


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """A step and what will become of it.

    Attributes:
        state: "cached": the ledger has it; "run": it will run; "depends": on what a step before it gives.
        trials: The trials that stand on it.
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
        detectable_difference: What dev can tell, as `StepGraph.detectable`, or None where the data is not yet read.
        estimates: By trial; trials of models that are not here yet have none.
    """

    trials: list[Trial]
    candidates: list[Candidate]
    steps: list[PlannedStep]
    comparisons: list[Comparison]
    detectable_difference: float | None
    estimates: dict[str, EstimateRecord] = field(default_factory=dict)


@dataclass(frozen=True)
class Resolved:
    """A step whose key is known, and the finished step under it if there is one."""

    key: Key
    record: StepRecord | None


class Resolver:
    """Finds the keys of steps from what the ledger holds, without running anything."""

    def __init__(self, ledger: Ledger, folder: Path, artifacts: Path) -> None:
        self._ledger = ledger
        self._folder = folder
        self._artifacts = artifacts
        self._known: dict[str, Resolved | None] = {}
        self.recipes = RecipeKeys()

    def look(self, step: Step) -> Resolved | None:
        """The step's key and record, or None while it depends on steps that did not run yet."""
        recipe = self.recipes.key(step)
        if recipe not in self._known:
            self._known[recipe] = self._look(step)
        return self._known[recipe]

    def forget(self, step: Step) -> None:
        """Look again the next time: it has run."""
        self._known.pop(self.recipes.key(step), None)

    def resolve(self, step: Step, inputs: Mapping[str, StepRecord], *, fetch: bool) -> Resolved | None:
        """Key and record of a step whose inputs are finished; None when a source is not here and `fetch` is False."""
        sources = step.identify(self._folder, fetch=fetch)
        if sources is None:
            return None
        key = resolved_key(step, sources, inputs)
        return Resolved(key, self._finished(step, key.digest))

    def _look(self, step: Step) -> Resolved | None:
        inputs: dict[str, StepRecord] = {}
        for name, dependency in step.dependencies().items():
            below = self.look(dependency.step)
            if below is None or below.record is None:
                return None
            inputs[name] = below.record
        return self.resolve(step, inputs, fetch=False)

    def _finished(self, step: Step, key: str) -> StepRecord | None:
        """A step that the ledger calls done, unless somebody removed its files."""
        record = self._ledger.find_step(key)
        if record is None or record.status != "done":
            return None
        if step.keeps_files and not (record.artifact and (self._artifacts / record.artifact).is_dir()):
            return None
        return record


def in_order(steps: Sequence[Step], key: Callable[[Step], str]) -> list[Step]:
    """Steps and all that they stand on, each once, what is needed first."""
    ordered: dict[str, Step] = {}

    def visit(step: Step) -> None:
        if key(step) in ordered:
            return
        for dependency in step.dependencies().values():
            visit(dependency.step)
        ordered[key(step)] = step

    for step in steps:
        visit(step)
    return list(ordered.values())


def make_plan(config: ProjectConfig, ledger: Ledger, folder: Path, artifacts: Path, limit: int | None = None) -> Plan:
    """What a run would do now.

    Raises:
        DataError: the data file is missing.
        UnsupportedError: the task is none that germinal handles yet.
    """
    from germinal.project.plan.estimates import estimate_trials

    graph = StepGraph(config, limit)
    resolver = Resolver(ledger, folder, artifacts)
    steps = in_order([graph.choose], resolver.recipes.key)
    standing = _trials_by_step(graph, resolver.recipes.key)
    planned = [_planned(step, resolver, standing) for step in steps]
    planned += _planned_test(graph, resolver)
    rows = _dev_rows(config, resolver.look(graph.data), limit)
    return Plan(
        trials=graph.trials,
        candidates=graph.candidates,
        steps=planned,
        comparisons=graph.comparisons,
        detectable_difference=graph.detectable(rows) if rows else None,
        estimates=estimate_trials(graph, resolver, ledger, folder),
    )


def _dev_rows(config: ProjectConfig, data: Resolved | None, limit: int | None) -> int | None:
    """How many rows dev has, or None where it is a share of data that is not yet read."""
    if data and data.record:
        return int(data.record.values["splits"]["dev"]["rows"])
    asked = config.scope.split.dev
    if isinstance(asked, float):
        return None
    return asked if limit is None else min(asked, limit)


def _planned(step: Step, resolver: Resolver, standing: Mapping[str, tuple[str, ...]]) -> PlannedStep:
    recipe = resolver.recipes.key(step)
    resolved = resolver.look(step)
    state: State = "depends" if resolved is None else "run" if resolved.record is None else "cached"
    if resolved is None and not step.dependencies():
        state = "run"  # it depends on nothing but what has to be fetched
    key = resolved.key.digest if resolved else None
    return PlannedStep(step.name, step.kind, state, recipe, key, standing.get(recipe, ()))


def _planned_test(graph: StepGraph, resolver: Resolver) -> Iterator[PlannedStep]:
    """Steps on test: of the winner, once it is known, and of the baselines."""
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
