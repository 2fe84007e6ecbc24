"""`germinal predict`: new inputs answered by the winner of a project."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from germinal.cli.options import QuietOption


def predict(
    arguments: Annotated[
        list[str],
        typer.Argument(
            metavar="[PROJECT] FILE",
            help="The project (default: this folder) and a csv, tsv, jsonl, parquet or txt file (one input per line).",
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="A .csv or .jsonl file.", show_default="csv on the screen"),
    ] = None,
    column: Annotated[
        str | None, typer.Option(metavar="NAME", help="The column with the inputs.", show_default="the project's")
    ] = None,
    trial: Annotated[
        str | None, typer.Option(metavar="TRIAL", help="Answer with this trial.", show_default="the winner")
    ] = None,
    force: Annotated[bool, typer.Option("--force", "-f", help="Replace the output file.")] = False,
    quiet: QuietOption = False,
) -> None:
    """Answer new inputs with the winner, and say how sure it is."""
    from germinal.cli.paths import refuse_existing
    from germinal.cli.views.console import stderr
    from germinal.cli.views.reporter import reporter
    from germinal.predictors.answer_file import check_output, read_inputs, render_answers, write_answers
    from germinal.project import Project
    from germinal.project.board.sentences import answering

    if len(arguments) > 2:
        raise typer.BadParameter("one project and one file are expected.", param_hint="[PROJECT] FILE")
    project, file = (arguments[0], arguments[1]) if len(arguments) == 2 else (".", arguments[0])
    if output is not None:
        check_output(output)
        refuse_existing(output, force=force)
    opened = Project(project)
    table, texts = read_inputs(Path(file), column or opened.config.scope.input)
    predictor = opened.winner() if trial is None else opened.predictor(trial)
    stderr.print(answering(opened.ledger.results(), trial), soft_wrap=True)
    with reporter(quiet=quiet) as report:
        answers = predictor.predict(texts, report)
    if output is None:
        sys.stdout.write(render_answers(table, answers, ".csv"))
    else:
        write_answers(output, table, answers)
