"""`germinal plan`: what a run would do and cost, before it starts."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from germinal.cli.options import JsonOption, LimitOption, ProjectArgument, SetOption
from germinal.cli.views.tables import duration, megabytes, millions, table

if TYPE_CHECKING:
    from germinal.project.plan.plan import Plan

_STATES = {"cached": "cached", "run": "to run", "depends": "depends"}


def plan(
    project: ProjectArgument = Path(),
    overrides: SetOption = None,
    limit: LimitOption = None,
    steps: Annotated[bool, typer.Option("--steps/--no-steps", help="List the steps one by one.")] = True,
    as_json: JsonOption = False,
) -> None:
    """Show the steps and trials of a run, what each will cost, and what the data can tell.

    A step is cached, to run, or depends on the result of a step before it.
    """
    from germinal.cli.views.console import stdout
    from germinal.project import Project

    made = Project(project).plan(limit=limit, overrides=tuple(overrides or ()))
    if as_json:
        typer.echo(json.dumps(made.to_json(), indent=2, ensure_ascii=False))
        return
    if steps:
        rows = ((_STATES[step.state], step.name, str(len(step.trials) or "")) for step in made.steps)
        stdout.print(table(("state", "step", "trials"), rows, right=("trials",)))
        stdout.print()
    stdout.print(_trial_table(made))
    stdout.print()
    if limit is not None:
        stdout.print(f"A trial run, on at most {limit} rows of dev and of test (--limit).")
    for stored, models in _unpacked(made).items():
        stdout.print(f"Weights are unpacked from {stored}: {', '.join(models)}.")
    for model, pieces in made.ends.items():
        stdout.print(f"Answers of {model} end at {', '.join(pieces) or 'no token'}.", soft_wrap=True, markup=False)
    states = Counter(_STATES[step.state] for step in made.steps)
    counted = ", ".join(f"{states[words]} {words}" for words in _STATES.values() if states[words])
    stdout.print(f"{len(made.trials)} trials of {len(made.candidates)} candidates; {len(made.steps)} steps: {counted}.")
    if made.detectable_difference is not None:
        points = 100 * made.detectable_difference
        stdout.print(f"Dev can tell apart candidates that differ by {points:.1f} points or more (80% power, 5% level).")


def _unpacked(made: Plan) -> dict[str, list[str]]:
    """The models by the precision that their files hold, where it is another than the trials'."""
    found: dict[str, list[str]] = {}
    for trial in made.trials:
        estimate = made.estimates.get(trial.id)
        stored = estimate.stored_precision if estimate else None
        if trial.model and stored not in (None, trial.precision) and trial.model not in found.setdefault(stored, []):
            found[stored].append(trial.model)
    return found


def _trial_table(made: Plan) -> Any:
    columns = ("trial", "parameters", "weights", "cache", "activations", "memory", "time")
    rows: list[tuple[str, ...]] = []
    for trial in made.trials:
        estimate = made.estimates.get(trial.id)
        if estimate is None:
            rows.append((trial.id, *("",) * 6))
            continue
        sizes = (estimate.weight_bytes, estimate.cache_bytes, estimate.activation_bytes, estimate.memory_bytes)
        rows.append((trial.id, millions(estimate.parameters), *map(megabytes, sizes), duration(estimate.seconds)))
    return table(columns, rows, right=columns[1:])
