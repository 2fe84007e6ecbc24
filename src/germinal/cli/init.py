"""`germinal init`: a commented germinal.toml, from a data file, options and a few questions."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from germinal.project.init.proposal import Proposal, Question


def init(
    data: Annotated[
        Path | None, typer.Argument(metavar="DATA", help="A csv, tsv, jsonl or parquet file with examples.")
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="PROJECT", help="The file to write, or its folder.")
    ] = Path("germinal.toml"),
    use_case: Annotated[str | None, typer.Option(metavar="TEXT", help="One sentence: what is the model for?")] = None,
    task: Annotated[str | None, typer.Option(help="The kind of answer.", show_default="what the data suggests")] = None,
    input: Annotated[str | None, typer.Option(metavar="COLUMN", help="The column with the texts.")] = None,
    target: Annotated[str | None, typer.Option(metavar="COLUMN", help="The column with the right answers.")] = None,
    group: Annotated[str | None, typer.Option(metavar="COLUMN", help="The column that names a row's source.")] = None,
    model: Annotated[
        list[str] | None, typer.Option(metavar="MODEL", help="A model to try.", show_default="smollm2-135m-instruct")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing: take what the data suggests.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", "-f", help="Replace a project file that is there.")] = False,
) -> None:
    """Write a germinal.toml from your data, its scope as narrow as it can be made.

    On a terminal, it asks for what neither the options nor the data tell.
    """
    from germinal.cli.views.console import stderr, stdout
    from germinal.project.init.proposal import propose
    from germinal.project.init.writer import write_project

    asking = sys.stdin.isatty() and not yes
    if data is None:
        if not asking:
            raise typer.BadParameter("name the file with your examples.", param_hint="DATA")
        data = Path(typer.prompt("Which file holds your examples?", err=True))
    chosen: dict[str, Any] = {"use_case": use_case, "task": task, "input": input, "target": target, "group": group}
    if model:
        chosen["models"] = tuple(model)
    proposal = propose(data, **chosen)
    while asking and proposal.questions:
        chosen |= {str(question.key): _ask(question) for question in proposal.questions}
        proposal = propose(data, **chosen)
    file = write_project(proposal, output, overwrite=overwrite)
    stderr.print(_summary(proposal), soft_wrap=True)
    stdout.print(f"{file}", soft_wrap=True)
    stderr.print(f"Next: germinal plan {_named(file)}".rstrip(), soft_wrap=True)


def _ask(question: Question) -> str:
    from germinal.cli.views.console import stderr

    if question.options:
        what = "Tasks" if question.key == "task" else "Columns"
        stderr.print(f"{what}: {', '.join(question.options)}", style="dim")
    while True:
        answer: str = typer.prompt(question.text, default=question.default, err=True)
        if not question.options or answer in question.options:
            return answer
        stderr.print(f"'{answer}' is none of them.")


def _summary(proposal: Proposal) -> str:
    from germinal.project.init.writer import too_long

    splits = proposal.splits
    labels = ", ".join(f"{label} {count:,}" for label, count in proposal.labels.items())
    counted = f"{proposal.rows:,} rows ({labels})" if labels else f"{proposal.task}, {proposal.rows:,} rows"
    lines = [proposal.words.use_case, f"{counted}: {proposal.train:,} train, {len(splits.dev)} dev"]
    lines[-1] += f", {len(splits.test)} test."
    if proposal.dropped:
        lines.append(f"{proposal.dropped:,} rows repeat another one and are dropped.")
    if proposal.detectable is not None:
        lines.append(f"Dev can show differences of {100 * proposal.detectable:.0f} points or more.")
    lines += [too_long(found) for found in proposal.lengths.too_long]
    if proposal.lengths.uncounted:
        names = ", ".join(proposal.lengths.uncounted)
        lines.append(f"The tokenizer of {names} is not on this machine: nothing could be counted with it.")
    return "\n".join(lines)


def _named(file: Path) -> str:
    """The project as an argument: nothing when it is in this folder."""
    return "" if file.resolve().parent == Path.cwd() and file.name == "germinal.toml" else str(file)
