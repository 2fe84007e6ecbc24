"""`germinal convert`: a model is written as a Hugging Face folder or a GGUF file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from germinal.cli.inputs import load
from germinal.cli.options import ModelArgument, QuietOption


def convert(
    model: ModelArgument,
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", metavar="PATH", help="The folder to write, or a .gguf file.", show_default=False
        ),
    ],
    precision: Annotated[
        str | None,
        typer.Option(
            metavar="PRECISION",
            help="float32 or bfloat16; in a .gguf file also float16.",
            show_default="the model's own",
        ),
    ] = None,
    without_head: Annotated[
        bool, typer.Option("--without-head", help="Leave the head of an encoder out of a .gguf file.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", "-f", help="Replace what is there.")] = False,
    quiet: QuietOption = False,
) -> None:
    """Write a model as a Hugging Face folder, or as a .gguf file that llama.cpp reads."""
    from germinal.cli.paths import refuse_existing
    from germinal.cli.views.console import stdout

    refuse_existing(output, force=force)
    packed = precision == "float16"  # for files only: no network computes in it
    lm = load(model, precision=None if packed else precision, quiet=quiet)
    lm.save(output, precision if packed else None, without_head)
    stdout.print(f"{lm.card.name}, {precision if packed else lm.precision}: {output}")
