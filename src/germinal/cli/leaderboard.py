"""`germinal leaderboard`: what the last run found, from the ledger alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from germinal.cli.options import JsonOption, ProjectArgument

RunOption = Annotated[
    int | None, typer.Option("--run", metavar="ID", help="Another run.", show_default="the last one without --limit")
]


def leaderboard(project: ProjectArgument = Path(), run: RunOption = None, as_json: JsonOption = False) -> None:
    """Show the leaderboard again.

    The JSON is the same wherever and however often the project is run, but for `run` and `timings`.
    """
    from germinal.cli.views.console import stdout
    from germinal.cli.views.leaderboard import render
    from germinal.project import Project

    board = Project(project).leaderboard(run)
    if as_json:
        typer.echo(json.dumps(board.to_json(), indent=2, ensure_ascii=False))
    else:
        stdout.print(render(board))
