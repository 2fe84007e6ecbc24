"""What commands read: a model, and a text from the command line or from standard input."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from germinal.errors import SettingError

if TYPE_CHECKING:
    from germinal.language_model import LanguageModel
    from germinal.text.content import Content


def load(model: str, *, precision: str | None, adapter: Path | None = None, quiet: bool = False) -> LanguageModel:
    """Load a model; a download shows how far it is."""
    from germinal.checkpoints.references import parse

    parse(model)  # an unknown name is refused before torch is imported, which takes seconds

    from germinal import loading
    from germinal.cli.views.reporter import reporter

    with reporter(quiet=quiet) as report:
        return loading.load(model, precision=precision, adapter=adapter, reporter=report)


def read_text(text: str) -> str:
    """A text as it was given; - is all of standard input."""
    return sys.stdin.read() if text == "-" else text


def read_prompt(prompt: str, *, chat: bool, system: str | None) -> Content:
    """A prompt as it was given, or as the user's message of a chat; - is all of standard input.

    Raises:
        SettingError: there is a system message and no chat.
    """
    if system is not None and not chat:
        raise SettingError("--system has no effect without --chat.", where="--system")
    text = read_text(prompt)
    if not chat:
        return text
    opening = [{"role": "system", "content": system}] if system is not None else []
    return [*opening, {"role": "user", "content": text}]
