"""What one setting accepts: how a value is read, which values are in range, and what a user is told of it.

`GenerationConfig` declares its fields with these rules, and everything that takes settings (Python, command line,
germinal.toml, HTTP) reads them from there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from germinal.errors import SettingError

When = Literal["always", "sampling", "beam search"]
"""When a setting has an effect: under every setting of the others, at a temperature above 0, with two beams or more."""


@dataclass(frozen=True, slots=True)
class Values:
    """The values that a setting takes.

    Attributes:
        type: int, float or str, of one item when `many`.
        allowed: The values in words.
        convert: Brings a value into its stored form, or raises a TypeError, ValueError, KeyError or OverflowError.
        holds: Whether a converted value is in range.
        off: A value that switches the setting off; it is stored as None.
        many: A command line may repeat the option.
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
        default: What it is when nobody sets it; where that is None, None switches it off.
        values: What it takes.
        applies: When it has an effect; set at any other time it is refused.
        help: One line for a user.
    """

    default: Any
    values: Values
    applies: When
    help: str

    def apply(self, name: str, value: Any) -> Any:
        """The value in its stored form.

        Raises:
            SettingError: names the setting, the value and what it takes.
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
    """A dataclass field that carries its rule."""
    return field(default=default, metadata={"rule": Rule(default, values, applies, help)})


def integers(low: int, *, off: int | None = None) -> Values:
    """The integers from `low` up, and one that switches the setting off."""
    allowed = f"an integer from {low} up" + ("" if off is None else f" ({off} is off)")
    return Values(int, allowed, integer, lambda value: value >= low or value == off, off=off)


def numbers(allowed: str, holds: Callable[[Any], bool], *, off: float | None = None) -> Values:
    """The finite numbers in a range, which is given in words and as a test."""
    return Values(float, allowed, number, holds, off=off)


def is_number(value: Any) -> bool:
    """Whether the value is an int or a float (a bool is neither)."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def integer(value: Any) -> int:
    """The value, if it is an int and no bool."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError
    return value


def number(value: Any) -> float:
    """The value as a float, if it is a finite number."""
    if not is_number(value) or not math.isfinite(value):
        raise TypeError
    return float(value)


def token_ids(value: Any) -> tuple[int, ...]:
    """One id or several, sorted, each once."""
    ids = [value] if isinstance(value, int) else list(value)
    return tuple(sorted({integer(token) for token in ids}))


def texts(value: Any) -> tuple[str, ...]:
    """One text or several."""
    several = (value,) if isinstance(value, str) else tuple(value)
    if not all(isinstance(text, str) for text in several):
        raise TypeError
    return several


def biases(value: Any) -> tuple[tuple[int, float], ...]:
    """A mapping of token id to bias, or pairs of them, sorted by id."""
    pairs = value.items() if isinstance(value, Mapping) else value
    return tuple(sorted({integer(token): number(bias) for token, bias in pairs}.items()))


def true_or_false(value: Any) -> bool:
    """True or False; a command line gives them as text."""
    return {"true": True, "false": False}[str(value).lower()]


def true_false_or_never(value: Any) -> bool | str:
    """True, False or "never"."""
    return value if value == "never" else true_or_false(value)
