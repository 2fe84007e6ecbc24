"""The rule of a generation setting: how a value is converted, which values are valid, and its help text.

`GenerationConfig` declares its fields with these rules. Everything that accepts settings (Python, the command line,
germinal.toml, HTTP) uses them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from germinal.errors import SettingError

When = Literal["always", "sampling", "beam search"]
"""When a setting has an effect: always, at a temperature above 0, or with two or more beams."""


@dataclass(frozen=True, slots=True)
class Values:
    """The values that a setting accepts.

    Attributes:
        type: int, float or str; if `many`, the type of one item.
        allowed: The values in words.
        convert: Converts a value to its stored form, or raises TypeError, ValueError, KeyError or OverflowError.
        holds: Whether a converted value is in range.
        off: The value that switches the setting off; it is stored as None.
        many: Whether the option may be repeated on the command line.
    """

    type: type
    allowed: str
    convert: Callable[[Any], Any]
    holds: Callable[[Any], bool] = lambda _: True
    off: Any = None
    many: bool = False


@dataclass(frozen=True, slots=True)
class Rule:
    """The rule of one setting.

    Attributes:
        default: The default; if this is None, None switches the setting off.
        values: The values that it accepts.
        applies: When it has an effect; setting it otherwise is an error.
        help: One line for a user.
    """

    default: Any
    values: Values
    applies: When
    help: str

    def apply(self, name: str, value: Any) -> Any:
        """Convert a value to its stored form.

        Raises:
            SettingError: the value is not valid.
        """
        if value is None and self.default is None:
            return None
        try:
            converted = self.values.convert(value)
        except (TypeError, ValueError, KeyError, OverflowError):
            converted = None
        if converted is None or not self.values.holds(converted):
            raise SettingError(f"{value!r} is not {self.values.allowed}.", where=name)
        return None if self.values.off is not None and converted == self.values.off else converted


def setting(default: Any, values: Values, applies: When, help: str) -> Any:
    """A dataclass field with its rule in the metadata."""
    return field(default=default, metadata={"rule": Rule(default, values, applies, help)})


def integers(low: int, *, off: int | None = None) -> Values:
    """The integers from `low` up, and `off`, which switches the setting off."""
    allowed = f"an integer from {low} up" + ("" if off is None else f" ({off} is off)")
    return Values(int, allowed, integer, lambda value: value >= low or value == off, off=off)


def numbers(allowed: str, holds: Callable[[Any], bool], *, off: float | None = None) -> Values:
    """The finite numbers in a range, given in words and as a predicate."""
    return Values(float, allowed, number, holds, off=off)


def is_number(value: Any) -> bool:
    """Whether the value is an int or a float, but not a bool."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def integer(value: Any) -> int:
    """The value, if it is an int but not a bool."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError
    return value


def number(value: Any) -> float:
    """The value as a float, if it is a finite number."""
    if not is_number(value) or not math.isfinite(value):
        raise TypeError
    return float(value)


def token_ids(value: Any) -> tuple[int, ...]:
    """One id or several, sorted and without duplicates."""
    ids = [value] if isinstance(value, int) else list(value)
    return tuple(sorted({integer(token) for token in ids}))


def texts(value: Any) -> tuple[str, ...]:
    """One text or several."""
    several = (value,) if isinstance(value, str) else tuple(value)
    if not all(isinstance(text, str) for text in several):
        raise TypeError
    return several


def biases(value: Any) -> tuple[tuple[int, float], ...]:
    """A mapping from token ids to biases, or such pairs, sorted by id."""
    pairs = value.items() if isinstance(value, Mapping) else value
    return tuple(sorted({integer(token): number(bias) for token, bias in pairs}.items()))


def true_or_false(value: Any) -> bool:
    """True or False, also as text, as from a command line."""
    return {"true": True, "false": False}[str(value).lower()]


def true_false_or_never(value: Any) -> bool | str:
    """True, False or "never"."""
    return value if value == "never" else true_or_false(value)
