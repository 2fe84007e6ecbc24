"""`germinal generate`: a prompt answered by a model, the text appearing as it is made."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from germinal.cli.options import (
    AdapterOption,
    JsonOption,
    ModelArgument,
    PrecisionOption,
    QuietOption,
    generation_options,
)
from germinal.errors import SettingError

if TYPE_CHECKING:
    from germinal.language_model import LanguageModel
    from germinal.text.content import Content
    from germinal.writing.request import Completion


@generation_options()
def generate(
    model: ModelArgument,
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help="The text to go on from; - reads standard input.")],
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
    from germinal.cli.loading import load
    from germinal.generation.config import GenerationConfig

    if system is not None and not chat:
        raise SettingError("--system has no effect without --chat.", where="--system")
    GenerationConfig.lenient(**settings)  # what is out of range is told before the model is loaded
    content = as_content(sys.stdin.read() if prompt == "-" else prompt, chat=chat, system=system)
    lm = load(model, precision=precision, adapter=adapter, quiet=quiet)
    if as_json or "n" in settings or "logprobs" in settings:
        answer = lm.generate(content, **settings)
        _print(lm, answer if isinstance(answer, list) else [answer], as_json=as_json)
        return
    for piece in lm.stream(content, **settings):
        sys.stdout.write(piece)
        sys.stdout.flush()
    sys.stdout.write("\n")


def as_content(text: str, *, chat: bool, system: str | None) -> Content:
    """A prompt as it stands, or as the user's message of a chat."""
    if not chat:
        return text
    opening = [{"role": "system", "content": system}] if system is not None else []
    return [*opening, {"role": "user", "content": text}]


def _print(lm: LanguageModel, answers: list[Completion], *, as_json: bool) -> None:
    """What cannot be streamed: several answers, or figures beside the text."""
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
    """Each token's log-probability, and its likeliest rivals."""
    if completion.logprobs is None:
        return
    from germinal.cli.console import stdout
    from germinal.cli.tables import table

    def spelt(token: int) -> str:
        return repr(lm.tokenizer.decode([token], skip_special_tokens=False))

    rows = []
    for token in completion.logprobs:
        rivals = ", ".join(f"{spelt(id)} {logprob:.3f}" for id, logprob in token.top_logprobs or ())
        rows.append((spelt(token.id), str(token.id), f"{token.logprob:.3f}", rivals))
    stdout.print(table(("token", "id", "log-probability", "likeliest"), rows, right=("id", "log-probability")))
