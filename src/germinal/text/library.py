"""Calls into the tokenizers library, whose errors of every kind become errors that name the file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from germinal.errors import CheckpointError, GerminalError, SettingError


@contextmanager
def calling(what: str, where: str) -> Iterator[None]:
    """Translate whatever the library raises inside.

    It raises bare `Exception`s, and where it fails to check what it reads, Rust's panics, which are no `Exception`s.

    Args:
        what: What it was asked for: "cannot be encoded".
        where: The file or the tokenizer.

    Raises:
        CheckpointError: the library failed.
        SettingError: the text holds half of a character, which has no bytes.
    """
    try:
        yield
    except (GerminalError, KeyboardInterrupt, SystemExit, GeneratorExit, MemoryError):
        raise
    except BaseException as error:
        raise CheckpointError(f"{what}: {error}.", where=where) from error


def check_text(text: str, where: str = "text") -> None:
    """Refuse a text that has no bytes, which the library takes for no text at all.

    Raises:
        SettingError: it holds half of a character (a lone surrogate).
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        half = f"U+{ord(text[error.start]):04X}"
        raise SettingError(f"holds {half} at character {error.start:,}, half of a character.", where=where) from None
