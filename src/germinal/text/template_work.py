"""How much work a template may do: whatever can take long is paid for before it is done.

A unit is a fifth of a microsecond's work: a round of a loop, or ten characters of text. A call pays for itself, a text
for its length, a comparison or a printed value for everything inside it. What would make a longer text or
number than a template may have is refused outright. Work is counted and not timed, so that a template which renders on
one machine renders on all.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, MappingView
from contextvars import ContextVar
from typing import Any

import jinja2

MIN_UNITS = 2_000_000
"""Units that every rendering has: half a second."""

MAX_CHARACTERS = 2_000_000
"""Length of the longest text that every rendering may make."""

PER_INPUT = 100
"""Further units, and characters, for each unit of what is rendered: a long chat may take longer."""

MAX_BITS = 1 << 16
MAX_DEPTH = 100
MAX_WIDTH = 10_000
CALL = 15
_JSON_WIDTH = 10
_CHARACTERS, _BITS = 10, 300  # that cost a unit
_ENDLESS = "it has loops, calls or texts without end"


class TooMuchWorkError(jinja2.TemplateRuntimeError):
    """A template was stopped, as it would take too long or too much memory."""


class Work:
    """What one rendering may still do.

    Args:
        inputs: What is rendered.

    Attributes:
        left: Units.
        longest: Characters of the longest text.
    """

    def __init__(self, inputs: object = ()) -> None:
        size = weight(inputs, 1 << 40)
        self.left = MIN_UNITS + PER_INPUT * size
        self.longest = MAX_CHARACTERS + PER_INPUT * size


_WORK: ContextVar[Work] = ContextVar("work")
begin = _WORK.set
"""Give what runs in this context a `Work` to pay from."""


def pay(units: int) -> None:
    """Use some units.

    Raises:
        TooMuchWorkError: there are not so many left.
    """
    work = _WORK.get()
    work.left -= units
    if work.left < 0:
        raise TooMuchWorkError(_ENDLESS)


def pay_for(value: object, times: int = 1) -> None:
    """Pay for everything inside a value, once or more; errors are those of `weight`."""
    if times > 0:
        pay(times * weight(value, _WORK.get().left // times))


def pay_for_text(characters: int) -> None:
    """Pay for a text before it is made.

    Raises:
        TooMuchWorkError: it is longer than a text may be.
    """
    longest = _WORK.get().longest
    if characters > longest:
        raise TooMuchWorkError(f"it makes a text of more than {longest:,} characters")
    pay(1 + characters // _CHARACTERS)


def weight(value: object, at_most: int) -> int:
    """Units of everything inside a value; what is found there twice counts twice, as it is printed twice.

    Raises:
        TooMuchWorkError: they are more than `at_most`, or lists and mappings are nested too deeply.
    """
    units, level = 0, [value]
    for _ in range(MAX_DEPTH):
        deeper: list[object] = []
        for each in level:
            units += 1
            if isinstance(each, str | bytes):
                units += len(each) // _CHARACTERS
            elif isinstance(each, int):
                units += each.bit_length() // _BITS
            elif isinstance(each, Mapping):
                deeper += each.keys()
                deeper += each.values()
            elif isinstance(each, list | tuple | range | MappingView):
                deeper += each  # type: ignore[arg-type]
            if units + len(deeper) > at_most:
                raise TooMuchWorkError(_ENDLESS)
        if not deeper:
            return units
        level = deeper
    raise TooMuchWorkError(f"it nests lists or mappings more than {MAX_DEPTH} deep")


def paid(values: Iterable[Any], units: int = 1) -> Iterator[Any]:
    """The values, each of which is paid for when it is taken."""
    for value in values:
        pay(units)
        yield value


def pay_for_binary(operator: str, left: Any, right: Any) -> None:
    """Pay for `left + right` and so on."""
    if operator == "*":
        _pay_for_repeating(left, right)
        _pay_for_repeating(right, left)
    elif operator == "+" and isinstance(left, str | bytes) and isinstance(right, str | bytes):
        pay_for_text(len(left) + len(right))
    elif operator == "+" and isinstance(left, list | tuple) and isinstance(right, list | tuple):
        pay(len(left) + len(right))
    elif operator == "%" and isinstance(left, str | bytes):
        pay_for_filling(left, right)
    if isinstance(left, int) and isinstance(right, int):
        _pay_for_numbers(operator, left, right)
    pay(1)


def pay_for_comparison(operator: str, left: Any, right: Any) -> None:
    """Pay for `left < right`, `left in right` and so on."""
    if operator in ("in", "notin"):
        if isinstance(left, tuple):
            pay_for(left)  # its hash is worked out anew each time
        if not isinstance(right, Mapping):
            pay_for(right)
    elif isinstance(left, str):
        pay(1 + len(left) // _CHARACTERS)
    elif isinstance(left, list | tuple | Mapping | MappingView) and not isinstance(right, str | int | float | None):
        pay_for(left)
    else:
        pay(1)


def pay_for_filling(text: str | bytes, values: object) -> None:
    """Pay for a text with places (`%5d`, `{:>5}`) that values are put into: each of them perhaps into each place."""
    plain = text if isinstance(text, str) else text.decode("latin-1")
    widths = [MAX_WIDTH + 1 if len(number) > 9 else int(number) for number in re.findall(r"\d+", plain)]
    if max(widths, default=0) > MAX_WIDTH or re.search(r"%[^%a-zA-Z]*\*|\{[^{}]*:[^{}]*\{", plain):
        raise TooMuchWorkError(f"it pads a text to a width that is computed, or above {MAX_WIDTH:,}")
    pay_for_text(len(plain) + sum(widths))
    pay_for(values, 1 + plain.count("%") + plain.count("{"))


def pay_for_result(value: Any) -> Any:
    """Pay for what a call made; of an iterator, each value is paid for when it is taken."""
    if isinstance(value, str | bytes):
        pay_for_text(len(value))
    elif isinstance(value, list | tuple | dict):
        pay(1 + len(value))
    elif isinstance(value, Iterator):
        return paid(value)
    return value


def _pay_for_repeating(value: Any, times: Any) -> None:
    if isinstance(times, int) and isinstance(value, str | bytes):
        pay_for_text(len(value) * max(times, 0))
    elif isinstance(times, int) and isinstance(value, list | tuple):
        pay(len(value) * max(times, 0))


def _pay_for_numbers(operator: str, left: int, right: int) -> None:
    bits = max(left.bit_length(), right.bit_length())
    if operator == "*":
        bits = left.bit_length() + right.bit_length()
    elif operator == "**":
        bits = left.bit_length() * abs(right)
    if bits > MAX_BITS:
        raise TooMuchWorkError(f"it makes a number of more than {MAX_BITS:,} bits")
    pay((bits // _BITS) ** 2)


def _pay_for_indenting(text: Any, width: Any = 4, *_: Any, **__: Any) -> None:
    lines = 1 + text.count("\n") if isinstance(text, str) else 1
    pay_for_text(lines * (len(width) if isinstance(width, str) else width))


def _pay_for_joining(separator: Any, values: Any) -> None:
    if isinstance(separator, str | bytes) and hasattr(values, "__len__"):
        pay_for_text(len(separator) * len(values))


def _pay_for_replacing(text: Any, old: Any, new: Any, *_: Any, **__: Any) -> None:
    if isinstance(text, str | bytes) and isinstance(old, type(text)) and isinstance(new, str | bytes):
        pay_for_text(len(text) + text.count(old) * len(new))  # type: ignore[arg-type]


def _pay_for_json(value: Any, ensure_ascii: Any = False, indent: Any = 0, separators: Any = (), **_: Any) -> None:
    between = [indent if isinstance(indent, int) else len(indent or ""), *map(len, separators or ())]
    if max(between) > _JSON_WIDTH:
        raise TooMuchWorkError(f"it writes JSON with more than {_JSON_WIDTH} characters between two values")
    pay_for_text(between[0] * MAX_DEPTH * weight(value, _WORK.get().left))


def _refuse_many_digits(value: Any, precision: Any = 0, *_: Any, **__: Any) -> None:
    if isinstance(precision, int) and abs(precision) > MAX_DEPTH:
        raise TooMuchWorkError(f"it rounds to more than {MAX_DEPTH} digits")


def _refuse_sums_of_lists(values: Any, attribute: Any = None, start: Any = 0) -> None:
    if not isinstance(start, int | float):
        raise TooMuchWorkError("it sums what is not a number")


GROWTH_BY_FILTER: dict[str, Callable[..., None]] = {
    "batch": lambda value, linecount, fill_with=None: pay_for_text(linecount),
    "center": lambda value, width=80: pay_for_text(width),
    "format": lambda value, *args, **kwargs: pay_for_filling(str(value), (args, kwargs)),
    "indent": _pay_for_indenting,
    "join": lambda value, d="", attribute=None: _pay_for_joining(d, value),
    "replace": _pay_for_replacing,
    "round": _refuse_many_digits,
    "slice": lambda value, slices, fill_with=None: pay_for_text(slices),
    "sum": _refuse_sums_of_lists,
    "tojson": _pay_for_json,
}
"""What a filter makes beyond the size of its arguments, which are paid for already; parameters are the filter's."""

GROWTH_BY_METHOD: dict[str, Callable[..., None]] = {
    **dict.fromkeys(("center", "ljust", "rjust", "zfill"), lambda text, width, fill=" ": pay_for_text(width)),
    "expandtabs": lambda text, tabsize=8: pay_for_text(len(text) * max(tabsize, 1)),
    "join": _pay_for_joining,
    "replace": _pay_for_replacing,
    "to_bytes": lambda number, length=1, *args, **kwargs: pay_for_text(length),
    "translate": lambda text, table: pay_for(table, len(text)),
}
"""The same for methods of texts and numbers."""
