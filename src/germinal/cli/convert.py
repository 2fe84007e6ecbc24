"""`germinal convert`: a model as a Hugging Face folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from germinal.cli.options import ModelArgument, PrecisionOption, QuietOption


def convert(
    model: ModelArgument,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FOLDER", help="The folder to write.", show_default=False)
    ],
    precision: PrecisionOption = None,
    force: Annotated[bool, typer.Option("--force", "-f", help="Replace what is in the folder.")] = False,
    quiet: QuietOption = False,
) -> None:
    """Write a model as a Hugging Face folder that transformers, vLLM and llama.cpp's converter read."""
    from germinal.cli.console import stdout
    from germinal.cli.loading import load
    from germinal.cli.paths import refuse_existing

    refuse_existing(output, force=force)
    lm = load(model, precision=precision, quiet=quiet)
    lm.save(output)
    stdout.print(f"{lm.card.name}, {lm.precision}: {output}")
