"""What one setting accepts: how a value is read, which values are in range, and what a user is told of it.

`GenerationConfig` declares its fields with these rules, and everything that takes settings (Python, command line,
germinal.toml, HTTP) reads them from there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from germinal.errors import SettingError


@dataclass(frozen=True, slots=True)
class Rule:
    """The rule of one setting.

    Attributes:
        type: int, float or str, of one item when `many`.
        help: One line for a user.
        allowed: The values it takes, in words.
        convert: Brings a value into its stored form, or raises a TypeError, ValueError, KeyError or
            OverflowError.
        holds: Whether a converted value is in range.
        optional: None means that the setting is off.
        off: A value that switches the setting off too; it is stored as None.
        many: A command line may repeat the option.
    """

    type: type
    help: str
    allowed: str
    convert: Callable[[Any], Any]
    holds: Callable[[Any], bool]
    optional: bool = True
    off: Any = None
    many: bool = False

    def apply(self, name: str, value: Any) -> Any:
        """The value in its stored form.

        Raises:
            SettingError: names the setting, the value and what it takes.
        """
        if value is None and self.optional:
            return None
        try:
            converted = self.convert(value)
        except (TypeError, ValueError, KeyError, OverflowError):
            converted = None
        if converted is None or not self.holds(converted):
            raise SettingError(f"{value!r} is not {self.allowed}.", where=name)
        return None if self.off is not None and converted == self.off else converted


def setting(default: Any, rule: Rule) -> Any:
    """A dataclass field that carries its rule."""
    return field(default=default, metadata={"rule": rule})


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
