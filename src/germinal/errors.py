"""Every error that a user can cause. Each has its own class and exit code, and says what was wrong, where, what to do.

Code that meets bad input raises one of these; the command line prints it without a traceback and exits with its code;
the server turns it into an HTTP error object. A bug in germinal stays an ordinary exception.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar


class GerminalError(Exception):
    """Base of all errors that a user can cause.

    Args:
        what: What was wrong, in one sentence.
        where: The file, line, key, tensor or argument it was found in.
        hint: What to do about it.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, what: str, *, where: str | None = None, hint: str | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.hint = hint

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        advice = f" {self.hint}" if self.hint else ""
        return f"{place}{self.what}{advice}"


class ProjectFileError(GerminalError):
    """germinal.toml is missing, malformed, or names a key or value that does not exist."""

    exit_code = 3


class DataError(GerminalError):
    """A data file is missing, empty or malformed, repeats rows, or lacks a column or label that the project names."""

    exit_code = 4


class ModelNotFoundError(GerminalError):
    """No such alias, folder, file, package or repository."""

    exit_code = 5


class CheckpointError(GerminalError):
    """A weights file is truncated, malformed, or contradicts its config (missing, extra or wrongly shaped tensors)."""

    exit_code = 6


class HashMismatchError(GerminalError):
    """The SHA-256 of a downloaded file is not the expected one."""

    exit_code = 7


class UnsafeFileError(GerminalError):
    """A file could run code when read (pickle), or a path leaves its folder."""

    exit_code = 8


class TemplateError(GerminalError):
    """A chat template is missing, malformed, or tried to reach outside its sandbox."""

    exit_code = 9


class VocabularyMismatchError(GerminalError):
    """A tokenizer does not match the model it is used with."""

    exit_code = 10


class ContextWindowError(GerminalError):
    """A prompt and its answer do not fit the model's context window."""

    exit_code = 11


class SettingError(GerminalError):
    """A setting is out of range, contradicts another, or could have no effect."""

    exit_code = 12


class UnsupportedError(GerminalError):
    """A feature, family or file format that germinal does not support; the message names it."""

    exit_code = 13


class StorageError(GerminalError):
    """The disk is full, or a file cannot be read or written."""

    exit_code = 14


class ProjectBusyError(GerminalError):
    """Another process is running this project."""

    exit_code = 15


class LedgerError(GerminalError):
    """The ledger lacks what was asked for, or was written by a newer version of germinal."""

    exit_code = 16


class TrainingError(GerminalError):
    """Training cannot continue: the loss is not finite, or there are no tokens to learn from."""

    exit_code = 17


class AddressError(GerminalError):
    """The server cannot listen on the given host and port."""

    exit_code = 18


class GerminalWarning(UserWarning):
    """What was done to a user's data as their files say, and should be known: a text was cut."""


def listed(names: Sequence[str], most: int = 8) -> str:
    """The first names, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most:,} more" if len(names) > most else "")


def nearest(name: str, known: list[str]) -> str:
    """A hint that names the closest known name, or all of them when none is close."""
    from difflib import get_close_matches

    close = get_close_matches(name, known, n=1)
    return f"Did you mean '{close[0]}'?" if close else f"Known: {', '.join(sorted(known))}."
