"""Why a trial's steps run again: the parts of their keys that changed since the last run that had the trial.

The last run is the last one over all rows; a trial run (--limit) only if there is no other.
"""

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
        changed: What differs from the last run. A step that differs may be cached, from a run before that.
        lacking: Why it runs although nothing differs: it never ran, it failed, or its files are gone. None if it does
            not run, or something differs.
    """

    role: str
    kind: str
    name: str
    state: State
    parts: dict[str, Any]
    changed: list[ChangedPart]
    lacking: str | None = None


@dataclass(frozen=True, slots=True)
class Why:
    """A trial and its steps, each after those that it depends on.

    Attributes:
        since: The run that the steps are compared with; None if no run started the trial.
        limit: The rows of dev and of test that this run was limited to, a trial run; None for all.
    """

    trial: str
    steps: list[WhyStep]
    since: int | None = None
    limit: int | None = None


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
    last = ledger.last_steps(trial_id)
    run, before = last or (None, {})
    steps = graph.steps(by_id[trial_id], "dev")
    return Why(
        trial_id,
        [_why(role, step, resolver, before.get(role)) for role, step in steps.items()],
        since=run.id if run else None,
        limit=run.limit if run else None,
    )


def _why(role: str, step: Step, resolver: Resolver, before: StepRecord | None) -> WhyStep:
    resolved, state = resolver.look(step), resolver.state(step)
    if resolved is None:
        # Its inputs are not known yet; the recipe tells what changed in the project file.
        now, was = resolver.recipes.parts(step), before.recipe_parts if before else None
    else:
        now, was = resolved.key.parts, before.parts if before else None
    changed = [] if was is None else [ChangedPart(*part) for part in changed_parts(was, now)]
    lacking = _lacking(before) if state == "run" and not changed else None
    return WhyStep(role, step.kind, step.name, state, now, changed, lacking)


def _lacking(before: StepRecord | None) -> str:
    """Why a step with the key of the last run runs again."""
    match before:
        case None:
            return "it has not run yet"
        case StepRecord(status="done"):
            return "its files are gone, or were changed"
        case StepRecord(status="incomplete"):
            return "some rows failed"
        case StepRecord(status="running"):
            return "it was interrupted"
    return f"it failed: {before.error}"
