"""The program `germinal`: its commands, and how it ends.

A `GerminalError` is printed in one or two lines, and its class has the exit code; wrong usage exits with 2, Ctrl-C with
130. Any other exception is a bug of ours and keeps its traceback.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence
from typing import Annotated, TextIO

import typer

from germinal.cli import (
    chat,
    classify,
    compare,
    convert,
    embed,
    fill_mask,
    generate,
    init,
    inspect,
    leaderboard,
    models,
    plan,
    predict,
    report,
    run,
    serve,
    tokenize,
    tune,
    why,
)
from germinal.errors import GerminalError, GerminalWarning
from germinal.version import __version__

app = typer.Typer(
    name="germinal",
    help="From a narrow use case to a measured, tuned and served language model.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

# In the order of the life cycle, which is the order of `germinal --help`.
_PANELS = {
    "A project: scope, select, adapt, measure": (init.init, plan.plan, run.run),
    "What came of it": (leaderboard.leaderboard, compare.compare, why.why, report.report),
    "Put the winner to work": (predict.predict, serve.serve),
    "A model by itself": (
        models.models,
        generate.generate,
        chat.chat,
        classify.classify,
        embed.embed,
        fill_mask.fill_mask,
        tokenize.tokenize,
        inspect.inspect,
        tune.tune,
        convert.convert,
    ),
}
for _panel, _commands in _PANELS.items():
    for _command in _commands:
        app.command(_command.__name__.replace("_", "-"), rich_help_panel=_panel)(_command)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"germinal {__version__}")
        raise typer.Exit


@app.callback()
def _program(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """From a narrow use case to a measured, tuned and served language model."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit with its code."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always", GerminalWarning)
            warnings.showwarning = _print_warning
            app(args=arguments, prog_name="germinal")
    except GerminalError as error:
        _print_error(error)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        _flush()


def _print_error(error: GerminalError) -> None:
    from germinal.cli.views.console import stderr

    place = f"{error.where}: " if error.where else ""
    stderr.print("error:", style="bold red", end=" ")
    stderr.print(f"{place}{error.what}", soft_wrap=True)
    if error.hint:
        stderr.print(error.hint, soft_wrap=True)


def _print_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """One of ours as a sentence; a library's as Python prints it."""
    from germinal.cli.views.console import stderr

    if not issubclass(category, GerminalWarning):
        (file or sys.stderr).write(warnings.formatwarning(message, category, filename, lineno, line))
        return
    stderr.print("note:", style="bold yellow", end=" ")
    stderr.print(str(message), soft_wrap=True)


def _flush() -> None:
    """Write out what is buffered. That nobody reads it any more (`germinal models | head -1`) is no error."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            # Python flushes once more when it ends: let it write to nowhere then.
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
