"""Why a trial's steps run again: the parts of their keys that changed since the last run that had the trial."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from germinal.errors import LedgerError, nearest
from germinal.ledger import Ledger, StepRecord
from germinal.project.file.config import ProjectConfig
from germinal.project.plan.resolver import Resolver, State
from germinal.project.plan.step_graph import StepGraph
from germinal.project.steps.base import Step
from germinal.project.steps.keys import changed_parts


@dataclass(frozen=True, slots=True)
class ChangedPart:
    """A part of a step's key, before and now, by its dotted path ("settings.prompt.instruction")."""

    part: str
    before: Any
    now: Any


@dataclass(frozen=True, slots=True)
class WhyStep:
    """One step of the trial.

    Attributes:
        parts: The parts of its key: of the resolved key where it is known, else of the recipe key.
        changed: What differs from the last run; empty for a step that is cached or never ran.
    """

    role: str
    kind: str
    name: str
    state: State
    parts: dict[str, Any]
    changed: list[ChangedPart]


@dataclass(frozen=True, slots=True)
class Why:
    """A trial and its steps, each after those that it depends on."""

    trial: str
    steps: list[WhyStep]


def why(config: ProjectConfig, ledger: Ledger, folder: Path, artifacts: Path, trial_id: str) -> Why:
    """Compare the keys of a trial's steps with those of the last run.

    Raises:
        LedgerError: the project has no such trial; names the nearest.
    """
    graph = StepGraph(config)
    by_id = {trial.id: trial for trial in graph.trials}
    if trial_id not in by_id:
        raise LedgerError(f"the project has no trial '{trial_id}'.", hint=nearest(trial_id, list(by_id)))
    resolver = Resolver(ledger, folder, artifacts)
    before = ledger.last_steps(trial_id)
    steps = graph.steps(by_id[trial_id], "dev")
    return Why(trial_id, [_why(role, step, resolver, before.get(role)) for role, step in steps.items()])


def _why(role: str, step: Step, resolver: Resolver, before: StepRecord | None) -> WhyStep:
    resolved, state = resolver.look(step), resolver.state(step)
    if resolved is None:
        # Its inputs are not known yet; the recipe tells what changed in the project file.
        now, was = resolver.recipes.parts(step), before.recipe_parts if before else None
    else:
        now, was = resolved.key.parts, before.parts if before else None
    changed = [] if state == "cached" or was is None else [ChangedPart(*part) for part in changed_parts(was, now)]
    return WhyStep(role, step.kind, step.name, state, now, changed)
