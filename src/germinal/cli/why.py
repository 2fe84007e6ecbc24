"""`germinal why`: what the keys of a trial's steps are made of, and what changed in them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from germinal.cli.options import JsonOption, ProjectOption, SetOption

if TYPE_CHECKING:
    from germinal.project.plan.why import Why, WhyStep

_STATES = {"cached": "cached", "run": "to run", "depends": "depends on what comes before it"}
_LONG = 60


def why(
    trial: Annotated[str, typer.Argument(metavar="TRIAL", help="A trial, as `germinal plan` names it.")],
    project: ProjectOption = Path(),
    overrides: SetOption = None,
    parts: Annotated[bool, typer.Option("--parts/--no-parts", help="Show all parts of the keys.")] = True,
    as_json: JsonOption = False,
) -> None:
    """Show the parts of the keys of a trial's steps, and which of them changed since the last run."""
    from dataclasses import asdict

    from germinal.project import Project

    found = Project(project).why(trial, overrides=tuple(overrides or ()))
    if as_json:
        typer.echo(json.dumps(asdict(found), indent=2, ensure_ascii=False, default=str))
        return
    for step in found.steps:
        _show(step, parts=parts)
    typer.echo(_conclusion(found))


def _conclusion(found: Why) -> str:
    """How many parts changed since when, and what runs all the same."""
    if found.since is None:
        return "No run has had this trial yet."
    limited = "" if found.limit is None else f", a trial run (--limit {found.limit})"
    changed = sum(len(step.changed) for step in found.steps)
    parts = "Nothing" if not changed else "1 part" if changed == 1 else f"{changed} parts"
    lacking = sum(step.lacking is not None for step in found.steps)
    again = f" All the same, {lacking} step{'s' if lacking > 1 else ''} will run." if lacking else ""
    return f"{parts} changed since run {found.since}{limited}.{again}"


def _show(step: WhyStep, *, parts: bool) -> None:
    from germinal.cli.views.console import stdout

    why = f", as {step.lacking}" if step.lacking else ""
    stdout.print(f"{step.role}: {_STATES[step.state]}{why}  ({step.name})", style="bold", soft_wrap=True)
    changed = {part.part: part for part in step.changed}
    for path, value in _flat(step.parts):
        if path in changed:
            part = changed.pop(path)
            stdout.print(f"  * {path}: {_short(part.before)} -> {_short(part.now)}", style="yellow", soft_wrap=True)
        elif parts:
            stdout.print(f"    {path}: {_short(value)}", style="dim", soft_wrap=True)
    for part in changed.values():  # parts that are gone
        stdout.print(f"  * {part.part}: {_short(part.before)} -> {_short(part.now)}", style="yellow", soft_wrap=True)


def _flat(parts: Any, path: str = "") -> list[tuple[str, Any]]:
    """The leaves of nested parts by dotted path."""
    if not isinstance(parts, dict) or not parts:
        return [(path, parts)]
    return [leaf for key, value in parts.items() for leaf in _flat(value, f"{path}.{key}" if path else str(key))]


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _LONG else f"{text[: _LONG - 1]}…"
