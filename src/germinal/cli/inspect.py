"""`germinal inspect`: what happens inside a model, as one HTML file that stands alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from germinal.cli.inputs import load, read_prompt
from germinal.cli.options import AdapterOption, ModelArgument, PrecisionOption, QuietOption, generation_options
from germinal.generation.config import GenerationConfig

# Only one token is generated: settings that count the answer so far, or end it, have nothing to act on.
_OF_ONE_TOKEN = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty", "no_repeat_ngram_size", "logit_bias")
_WITHOUT_EFFECT = tuple(each.name for each in GenerationConfig.settings() if each.name not in _OF_ONE_TOKEN)


@generation_options(without=_WITHOUT_EFFECT)
def inspect(
    model: ModelArgument,
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help="The text to look at; - reads standard input.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="Where to write the page.")] = Path(
        "look.html"
    ),
    pictures: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Write each picture as a PNG file too.")
    ] = None,
    word: Annotated[
        list[str] | None,
        typer.Option(metavar="WORD", help="Compare this word's embedding with the others'; may be repeated."),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="What an encoder-decoder has written so far.", show_default="its own answer"),
    ] = None,
    precision: PrecisionOption = None,
    adapter: AdapterOption = None,
    chat: Annotated[
        bool, typer.Option("--chat/--no-chat", help="Put the prompt through the model's chat template.")
    ] = False,
    system: Annotated[str | None, typer.Option(metavar="TEXT", help="A system message (with --chat).")] = None,
    quiet: QuietOption = False,
    *,
    settings: dict[str, Any],
) -> None:
    """Show what happens inside a model, from tokens to the next token's odds, as one HTML file.

    Without sampling settings, the steps of sampling are shown for those of an example.
    """

    GenerationConfig.lenient(**settings)  # what is out of range is refused before the model is loaded
    content = read_prompt(prompt, chat=chat, system=system)
    lm = load(model, precision=precision, adapter=adapter, quiet=quiet)

    from germinal import inspection

    chosen = {"words": word} if word else {}
    look = inspection.inspect(lm, content, target=target, settings=settings, **chosen)
    typer.echo(look.save(output))
    for path in look.save_pictures(pictures) if pictures is not None else ():
        typer.echo(path)
