"""`germinal chat`: a conversation with a model."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from germinal.cli.inputs import load
from germinal.cli.options import AdapterOption, ModelArgument, PrecisionOption, QuietOption, generation_options

if TYPE_CHECKING:
    from germinal.language_model import LanguageModel
    from germinal.text.chat_template import Message

_HELP = "/reset forgets the conversation, /quit or Ctrl-D ends it; Ctrl-C stops an answer."


@generation_options(without=("n", "logprobs"))
def chat(
    model: ModelArgument,
    system: Annotated[str | None, typer.Option(metavar="TEXT", help="A system message.")] = None,
    precision: PrecisionOption = None,
    adapter: AdapterOption = None,
    quiet: QuietOption = False,
    *,
    settings: dict[str, Any],
) -> None:
    """Talk with a model; the oldest turns make room when the context window is full."""
    from germinal.cli.views.console import stderr
    from germinal.generation.config import GenerationConfig
    from germinal.text.chat_template import Message

    GenerationConfig.lenient(**settings)
    lm = load(model, precision=precision, adapter=adapter, quiet=quiet)
    opening = [Message(role="system", content=system)] if system is not None else []
    messages = list(opening)
    if not quiet:
        stderr.print(f"{lm.card.name}, {lm.precision}. {_HELP}", style="dim")
    while (line := _ask()) is not None:
        if line == "/quit":
            return
        if line == "/reset":
            messages = list(opening)
            stderr.print("The conversation is forgotten.", style="dim")
        elif line.startswith("/"):
            stderr.print(f"There is no command '{line.split()[0]}'. {_HELP}", style="dim")
        elif line:
            messages = _turn(lm, [*messages, Message(role="user", content=line)], settings)


def _ask() -> str | None:
    """The next line from the user, or None at the end of the input."""
    try:
        if sys.stdin.isatty():
            return input("> ").strip()
        line = sys.stdin.readline()
        return line.strip() if line else None
    except (EOFError, KeyboardInterrupt):
        return None


def _turn(lm: LanguageModel, messages: list[Message], settings: dict[str, Any]) -> list[Message]:
    """Stream an answer, and return the conversation with it; without the question, if that alone does not fit."""
    from germinal.cli.views.console import stderr
    from germinal.errors import ContextWindowError
    from germinal.text.chat_template import Message
    from germinal.text.conversation import fit_conversation

    window = lm.context_window
    longest = settings.get("max_new_tokens", lm.generation_defaults.max_new_tokens)
    if "max_new_tokens" not in settings and lm.writer.max_length is not None:
        window = min(window, lm.writer.max_length)
    try:
        # Room for a long answer must not push out the messages that it answers.
        fitted = fit_conversation(messages, lm.tokenizer, window, reserve=min(longest, window // 2))
    except ContextWindowError as error:
        stderr.print(str(error), style="red")
        return messages[:-1]
    if fitted.dropped:
        stderr.print(f"The {fitted.dropped} oldest messages no longer fit and are forgotten.", style="dim")
    answer = ""
    try:
        for piece in lm.stream(list(fitted.messages), **settings):
            answer += piece
            sys.stdout.write(piece)
            sys.stdout.flush()
    except KeyboardInterrupt:
        stderr.print(" (stopped)", style="dim", end="")
    sys.stdout.write("\n")
    return [*fitted.messages, Message(role="assistant", content=answer)]
