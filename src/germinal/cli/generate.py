"""`germinal generate`: a model's answer to a prompt, printed as it is generated."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from germinal.cli.inputs import load, read_prompt
from germinal.cli.options import (
    AdapterOption,
    JsonOption,
    ModelArgument,
    PrecisionOption,
    QuietOption,
    generation_options,
)

if TYPE_CHECKING:
    from germinal.language_model import LanguageModel
    from germinal.writing.request import Completion


@generation_options()
def generate(
    model: ModelArgument,
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help="The text to continue; - reads standard input.")],
    precision: PrecisionOption = None,
    adapter: AdapterOption = None,
    chat: Annotated[
        bool, typer.Option("--chat/--no-chat", help="Put the prompt through the model's chat template.")
    ] = False,
    system: Annotated[str | None, typer.Option(metavar="TEXT", help="A system message (with --chat).")] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    *,
    settings: dict[str, Any],
) -> None:
    """Answer a prompt, streaming.

    A setting that could have no effect (--top-p at temperature 0) is refused, not ignored.
    """
    from germinal.generation.config import GenerationConfig

    GenerationConfig.lenient(**settings)  # what is out of range is refused before the model is loaded
    content = read_prompt(prompt, chat=chat, system=system)
    lm = load(model, precision=precision, adapter=adapter, quiet=quiet)
    if as_json or "n" in settings or "logprobs" in settings:
        answer = lm.generate(content, **settings)
        _print(lm, answer if isinstance(answer, list) else [answer], as_json=as_json)
        return
    for piece in lm.stream(content, **settings):
        sys.stdout.write(piece)
        sys.stdout.flush()
    sys.stdout.write("\n")


def _print(lm: LanguageModel, answers: list[Completion], *, as_json: bool) -> None:
    """Print what cannot be streamed: several answers, or figures beside the text."""
    if as_json:
        from dataclasses import asdict

        typer.echo(json.dumps([asdict(each) for each in answers], ensure_ascii=False, indent=2))
        return
    for number, each in enumerate(answers, start=1):
        if len(answers) > 1:
            typer.echo(f"--- {number} of {len(answers)} ({each.finish_reason})")
        typer.echo(each.text)
        _print_logprobs(lm, each)


def _print_logprobs(lm: LanguageModel, completion: Completion) -> None:
    """Print each token's log-probability, and the most likely tokens at its place."""
    if completion.logprobs is None:
        return
    from germinal.cli.views.console import stdout
    from germinal.cli.views.tables import table

    def spelt(token: int) -> str:
        return repr(lm.tokenizer.decode([token], skip_special_tokens=False))

    rows = []
    for token in completion.logprobs:
        rivals = ", ".join(f"{spelt(id)} {logprob:.3f}" for id, logprob in token.top_logprobs or ())
        rows.append((spelt(token.id), str(token.id), f"{token.logprob:.3f}", rivals))
    stdout.print(table(("token", "id", "log-probability", "likeliest"), rows, right=("id", "log-probability")))
