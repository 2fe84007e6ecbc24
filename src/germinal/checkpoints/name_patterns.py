"""Regular expressions for the names of layers, matched in bounded time.

The patterns in an adapter's config were written by whoever made the adapter, and the standard library's `re` takes
exponential time for some: a file could stop the process. `regex` reads the same syntax and can be stopped.
"""

from __future__ import annotations

import time

import regex

from germinal.errors import CheckpointError

MAX_LENGTH, MAX_SECONDS = 20_000, 1.0
"""The most characters of a pattern, and the longest that its matches with all names may take. Those of names of layers
take microseconds.
"""

_HINT = "List the names of the layers instead."


class NamePattern:
    """A pattern for names.

    Args:
        pattern: In the syntax of `re`.
        where: The place of the pattern, for errors.

    Raises:
        CheckpointError: the pattern is malformed or too large. Its methods raise one when it takes too long.
    """

    def __init__(self, pattern: str, where: str) -> None:
        self.pattern = pattern
        self.where = where
        self._seconds_left = MAX_SECONDS
        self._compiled: dict[str, regex.Pattern[str]] = {}
        if len(pattern) > MAX_LENGTH:
            raise CheckpointError(f"is a pattern of {len(pattern):,} characters.", where=where, hint=_HINT)
        self._compile(pattern)

    def matches(self, name: str) -> bool:
        """Whether the pattern matches the whole name, as `re.fullmatch`."""
        return self._fullmatch(self.pattern, name) is not None

    def matches_end(self, name: str) -> bool:
        """Whether the pattern matches the whole name, or the part of it after a dot."""
        return self._fullmatch(rf"(.*\.)?({self.pattern})", name) is not None

    def block_index(self, name: str) -> int | None:
        """The number that follows, between dots, where the pattern matches components of the name; else None."""
        found = self._fullmatch(rf"(?:.*?\.)?(?:{self.pattern})\.(?P<block>\d+)\..*", name)
        return None if found is None else int(found["block"])

    def _fullmatch(self, pattern: str, name: str) -> regex.Match[str] | None:
        compiled = self._compile(pattern)
        begun = time.monotonic()
        try:
            return compiled.fullmatch(name, timeout=max(self._seconds_left, 1e-9))
        except (TimeoutError, MemoryError) as error:
            raise CheckpointError("is a pattern that takes too long.", where=self.where, hint=_HINT) from error
        finally:
            self._seconds_left -= time.monotonic() - begun

    def _compile(self, pattern: str) -> regex.Pattern[str]:
        if pattern not in self._compiled:
            try:
                self._compiled[pattern] = regex.compile(pattern, regex.VERSION0)
            except (regex.error, OverflowError, RecursionError, MemoryError) as error:
                what = f"is not a pattern for names: {str(error) or type(error).__name__}."
                raise CheckpointError(what, where=self.where, hint=_HINT) from error
        return self._compiled[pattern]
