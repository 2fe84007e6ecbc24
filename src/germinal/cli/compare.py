"""`germinal compare`: two trials side by side."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from germinal.cli.leaderboard import RunOption
from germinal.cli.options import JsonOption, ProjectOption


def compare(
    first: Annotated[str, typer.Argument(metavar="TRIAL", help="A trial, as the leaderboard names it.")],
    second: Annotated[str, typer.Argument(metavar="TRIAL", help="The other one.")],
    project: ProjectOption = Path(),
    split: Annotated[str, typer.Option(help="dev, or test for the winner and the baselines.")] = "dev",
    run: RunOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare two trials: a paired test, and the examples on which they differ, with raw outputs."""
    from germinal.cli.views.comparison import render
    from germinal.cli.views.console import stdout
    from germinal.project import Project
    from germinal.project.board.comparison import compare as compare_trials

    comparison = compare_trials(Project(project).ledger, first, second, split=split, run_id=run)
    if as_json:
        typer.echo(json.dumps(comparison.to_json(), indent=2, ensure_ascii=False))
    else:
        stdout.print(render(comparison))
