"""`germinal embed`: texts as vectors, and how close these are to each other."""

from __future__ import annotations

import json
import math
import sys
from itertools import combinations
from typing import TYPE_CHECKING, Annotated

import typer

from germinal.cli.inputs import load
from germinal.cli.options import AdapterOption, JsonOption, ModelArgument, PrecisionOption, QuietOption

if TYPE_CHECKING:
    from germinal.reading.vectors import Vectors


def embed(
    model: ModelArgument,
    texts: Annotated[
        list[str], typer.Argument(metavar="TEXT...", help="The texts; - reads them from standard input, one per line.")
    ],
    pooling: Annotated[
        str | None,
        typer.Option(
            metavar="KIND",
            help="mean, weightedmean, mean_sqrt_len, max, first, last or pooler.",
            show_default="the model's own, or mean",
        ),
    ] = None,
    normalize: Annotated[
        bool | None,
        typer.Option("--normalize/--no-normalize", help="Give all vectors length 1.", show_default="the model's own"),
    ] = None,
    prompt: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Which of the model's prompts to put first: query, ...", show_default="the model's own"
        ),
    ] = None,
    precision: PrecisionOption = None,
    adapter: AdapterOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Turn texts into vectors, and show the cosine and the angle between any two."""
    from germinal.cli.views.reporter import reporter

    read = [line.rstrip("\n") for line in sys.stdin if line.strip()] if texts == ["-"] else texts
    lm = load(model, precision=precision, adapter=adapter, quiet=quiet)
    with reporter(quiet=quiet) as report:
        vectors = lm.encode(read, pooling, normalize, report, prompt)
    if as_json:
        found = [{"text": text, "vector": vector.tolist()} for text, vector in zip(read, vectors, strict=True)]
        typer.echo(json.dumps(found, ensure_ascii=False))
        return
    _show(read, vectors)


def _show(texts: list[str], vectors: Vectors) -> None:
    from germinal.cli.views.console import stdout
    from germinal.cli.views.tables import table
    from germinal.reading.vectors import similarities

    cosines = similarities(vectors)
    if len(texts) > 1:
        rows = (
            (
                _short(texts[left]),
                _short(texts[right]),
                f"{cosines[left, right]:.3f}",
                f"{math.degrees(math.acos(cosines[left, right])):.1f}°",
            )
            for left, right in combinations(range(len(texts)), 2)
        )
        stdout.print(table(("text", "and", "cosine", "angle"), rows, right=("cosine", "angle")))
        stdout.print()
    stdout.print(f"Vectors of {vectors.shape[1]} numbers; --json prints them.")


def _short(text: str, width: int = 44) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"
