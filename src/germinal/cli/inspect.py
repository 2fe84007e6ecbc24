"""`germinal inspect`: what happens inside a model, as one HTML file that stands alone."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from germinal.cli.options import AdapterOption, ModelArgument, PrecisionOption, QuietOption, generation_options
from germinal.errors import SettingError
from germinal.generation.config import GenerationConfig

# One token is looked at: what counts the answer so far, or ends it, has nothing to act on.
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

    Without sampling settings the steps of sampling are shown with an example's.
    """
    from germinal.cli.generate import as_content
    from germinal.cli.loading import load

    if system is not None and not chat:
        raise SettingError("--system has no effect without --chat.", where="--system")
    GenerationConfig.lenient(**settings)  # what is out of range is told before the model is loaded
    content = as_content(sys.stdin.read() if prompt == "-" else prompt, chat=chat, system=system)
    lm = load(model, precision=precision, adapter=adapter, quiet=quiet)

    from germinal import inspection

    chosen = {"words": word} if word else {}
    look = inspection.inspect(lm, content, target=target, settings=settings, **chosen)
    typer.echo(look.save(output))
    for path in look.save_pictures(pictures) if pictures is not None else ():
        typer.echo(path)
