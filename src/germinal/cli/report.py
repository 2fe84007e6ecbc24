"""`germinal report`: one HTML file that stands alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from germinal.cli.leaderboard import RunOption
from germinal.cli.options import ProjectArgument


def report(
    project: ProjectArgument = Path(),
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Where to write it; - is standard output.",
            show_default="report.html in the project",
        ),
    ] = None,
    run: RunOption = None,
) -> None:
    """Write leaderboard, figures, predictions and prompts as one HTML file."""
    from germinal.cli.views.console import stderr
    from germinal.project import Project
    from germinal.project.board.report import report_html, write_report

    opened = Project(project)
    shown = opened.ledger.results(run).run
    if shown.limit is not None:
        what = f"Run {shown.id} is a trial run on the first {shown.limit} rows of dev and of test (--limit)."
        stderr.print(what, soft_wrap=True)
    if output == Path("-"):
        typer.echo(report_html(opened.ledger, run))
        return
    written = write_report(opened.ledger, output or opened.folder / "report.html", run_id=run)
    typer.echo(written)
