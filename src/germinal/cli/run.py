"""`germinal run`: the main job, from germinal.toml to a leaderboard."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from germinal.cli.options import LimitOption, ProjectArgument, QuietOption, SetOption


def run(
    project: ProjectArgument = Path(),
    overrides: SetOption = None,
    limit: LimitOption = None,
    report: Annotated[bool, typer.Option("--report/--no-report", help="Write the HTML report at the end.")] = True,
    quiet: QuietOption = False,
) -> None:
    """Run the trials of a project and print the leaderboard.

    Stop it at any time, even with kill -9: the same command resumes it and repeats nothing.
    """
    from germinal.cli.views.console import stderr, stdout
    from germinal.cli.views.leaderboard import render
    from germinal.cli.views.reporter import reporter
    from germinal.project import Project

    opened = Project(project)
    try:
        with reporter(quiet=quiet) as progress:
            summary = opened.run(limit=limit, overrides=tuple(overrides or ()), reporter=progress)
    except KeyboardInterrupt:
        stderr.print("Stopped. What is done is kept: the same command resumes from here.")
        raise typer.Exit(130) from None
    stdout.print(render(opened.leaderboard(summary.run_id)))
    stderr.print(f"\n{summary}", soft_wrap=True)
    if report:
        from germinal.project.board.report import write_report

        # A trial run must not take the place of the report of a whole one.
        name = "report.html" if limit is None else "trial-run.html"
        written = write_report(opened.ledger, opened.folder / name, run_id=summary.run_id)
        stdout.print(f"Report: {written}", soft_wrap=True)
