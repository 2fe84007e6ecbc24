"""Regular expressions for the names of layers, matched in bounded time.

The patterns in an adapter's config were written by whoever made the adapter, and `re` takes exponential time for some:
a file could stop the process. Here an element of a pattern maps all places where a match of it may begin to all places
where one may end (Thompson 1968, "Regular expression search algorithm"), so that nothing is tried twice, and the
elements that are visited for one name are counted.

The syntax is that of `re`, whose parser reads it. Not supported are backreferences and conditions on groups, which
names of layers never need and which cannot be matched in this way.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from re import _constants as codes  # type: ignore[attr-defined]  # the parser has no public name since Python 3.11
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

from germinal.errors import CheckpointError

MAX_LENGTH, MAX_STEPS = 20_000, 100_000
"""The most characters of a pattern, and the most elements of it that are visited for one name."""

_HINT = "List the names of the layers instead."


class NamePattern:
    """A pattern for names.

    Args:
        pattern: In the syntax of `re`.
        where: The place of the pattern, for errors.

    Raises:
        CheckpointError: the pattern is malformed or too large.
    """

    def __init__(self, pattern: str, where: str) -> None:
        self.pattern = pattern
        self.where = where
        if len(pattern) > MAX_LENGTH:
            raise CheckpointError(f"is a pattern of {len(pattern):,} characters.", where=where, hint=_HINT)
        try:
            self._items = parser.parse(pattern)
        except (re.error, OverflowError, RecursionError) as error:
            raise CheckpointError(f"is not a pattern for names: {error}.", where=where, hint=_HINT) from error
        if self._items.state.flags & ~re.UNICODE:
            raise CheckpointError("has flags, which are not supported.", where=where, hint=_HINT)

    def ends(self, name: str, start: int = 0) -> list[int]:
        """The places in `name` where a match that begins at `start` may end.

        Raises:
            CheckpointError: the pattern uses what is not supported, or takes too many steps.
        """
        try:
            return list(_places(_Match(name).after(self._items, 1 << start)))
        except KeyError as error:
            what = str(error.args[0]).lower().replace("_", " ")
            raise CheckpointError(f"has '{what}', which is not supported.", where=self.where, hint=_HINT) from error
        except (TimeoutError, RecursionError) as error:
            raise CheckpointError("is a pattern that takes too long.", where=self.where, hint=_HINT) from error

    def matches(self, name: str) -> bool:
        """Whether the pattern matches the whole name, as `re.fullmatch`."""
        return len(name) in self.ends(name)

    def matches_end(self, name: str) -> bool:
        """Whether the pattern matches the whole name, or the part of it after a dot."""
        return any(len(name) in self.ends(name, start) for start in components(name))


def components(name: str) -> Iterator[int]:
    """The places in a dotted name where a component begins."""
    yield 0
    yield from (place + 1 for place, letter in enumerate(name) if letter == ".")


def _places(mask: int) -> Iterator[int]:
    return (place for place in range(mask.bit_length()) if mask >> place & 1)


class _Match:
    """The elements of a parsed pattern, applied to one name. A set of places is an integer with a bit for each."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.steps = 0

    def after(self, items: Iterable[tuple[Any, Any]], starts: int) -> int:
        """The places after a sequence of elements that begins at any of `starts`."""
        for code, argument in items:
            self.steps += 1
            if self.steps > MAX_STEPS:
                raise TimeoutError
            if not starts:
                break
            starts = self._element(code, argument, starts)
        return starts

    def _element(self, code: Any, argument: Any, starts: int) -> int:
        if code in (codes.MAX_REPEAT, codes.MIN_REPEAT):
            return self._repeated(int(argument[0]), int(argument[1]), argument[2], starts)
        if code == codes.BRANCH:
            ends = 0
            for choice in argument[1]:
                ends |= self.after(choice, starts)
            return ends
        if code == codes.SUBPATTERN:
            _, added, removed, items = argument
            if added or removed:
                raise KeyError("flags")
            return self.after(items, starts)
        if code in (codes.ASSERT, codes.ASSERT_NOT):
            wanted = code == codes.ASSERT
            direction, inner = argument
            return sum(1 << place for place in _places(starts) if self._looks(direction, inner, place) == wanted)
        if code == codes.AT:
            return sum(1 << place for place in _places(starts) if self._is_at(argument, place))
        letters = (1 << place for place in _places(starts) if place < len(self.name))
        return sum(2 * bit for bit in letters if _fits(code, argument, self.name[bit.bit_length() - 1]))

    def _repeated(self, low: int, high: int, items: Any, starts: int) -> int:
        found = starts if low == 0 else 0
        for count in range(1, high + 1):
            ends = self.after(items, starts)
            if count > low:
                ends &= ~found
            settled = ends == starts  # and so it stays, however often it is repeated
            starts = ends
            if count >= low or settled:
                found |= starts
            if not starts or settled:
                break
        return found

    def _looks(self, direction: int, items: Any, place: int) -> bool:
        if direction > 0:
            return bool(self.after(items, 1 << place))
        return any(self.after(items, 1 << start) >> place & 1 for start in range(place + 1))

    def _is_at(self, where: Any, place: int) -> bool:
        before, after = (self.name[each : each + 1] if each >= 0 else "" for each in (place - 1, place))
        holds = {
            codes.AT_BEGINNING: place == 0,
            codes.AT_BEGINNING_STRING: place == 0,
            codes.AT_END: place == len(self.name),
            codes.AT_END_STRING: place == len(self.name),
            codes.AT_BOUNDARY: _is_word(before) != _is_word(after),
            codes.AT_NON_BOUNDARY: _is_word(before) == _is_word(after),
        }
        return bool(holds[where])


def _is_word(letter: str) -> bool:
    return letter.isalnum() or letter == "_"


_CATEGORIES: dict[Any, Callable[[str], bool]] = {
    codes.CATEGORY_DIGIT: str.isdecimal,
    codes.CATEGORY_NOT_DIGIT: lambda letter: not letter.isdecimal(),
    codes.CATEGORY_SPACE: str.isspace,
    codes.CATEGORY_NOT_SPACE: lambda letter: not letter.isspace(),
    codes.CATEGORY_WORD: _is_word,
    codes.CATEGORY_NOT_WORD: lambda letter: not _is_word(letter),
}


def _fits(code: Any, argument: Any, letter: str) -> bool:
    """Whether a letter is what an element asks for; a KeyError names an element that is not supported."""
    if code == codes.IN:
        negated = argument[0][0] == codes.NEGATE
        return bool(negated) != any(_fits(kind, each, letter) for kind, each in argument[negated:])
    if code == codes.RANGE:
        return bool(argument[0] <= ord(letter) <= argument[1])
    if code == codes.CATEGORY:
        return bool(_CATEGORIES[argument](letter))
    fits: dict[Any, bool] = {
        codes.ANY: letter != "\n",
        codes.LITERAL: argument == ord(letter),
        codes.NOT_LITERAL: argument != ord(letter),
    }
    return fits[code]
