"""`germinal fill-mask`: the most likely words for the gaps of a text."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from germinal.cli.inputs import load, read_text
from germinal.cli.options import AdapterOption, JsonOption, ModelArgument, PrecisionOption, QuietOption


def fill_mask(
    model: ModelArgument,
    text: Annotated[
        str, typer.Argument(metavar="TEXT", help="The text, with the model's mask token in it; - reads standard input.")
    ],
    top_k: Annotated[int, typer.Option(min=1, metavar="N", help="How many words to show for each mask.")] = 5,
    precision: PrecisionOption = None,
    adapter: AdapterOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Fill the gaps of a text, marked by the model's mask token, with the likeliest words."""
    from germinal.cli.views.console import stdout
    from germinal.cli.views.tables import table

    read = read_text(text).rstrip("\n")
    lm = load(model, precision=precision, adapter=adapter, quiet=quiet)
    filled = lm.fill_mask(read, top_k)
    if as_json:
        from dataclasses import asdict

        typer.echo(json.dumps([[asdict(each) for each in words] for words in filled], ensure_ascii=False))
        return
    for number, words in enumerate(filled, start=1):
        if len(filled) > 1:
            stdout.print(f"mask {number} of {len(filled)}")
        rows = ((each.word, f"{each.probability:.3f}", each.text) for each in words)
        stdout.print(table(("word", "probability", "text"), rows, right=("probability",)))
