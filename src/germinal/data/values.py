"""Values of data files as texts: the same whoever reads them, and whatever kind of file holds them."""

from __future__ import annotations

import json
import math
from decimal import Decimal
from typing import Any


def text_of(value: Any) -> str | None:
    """A value as text; "" where it is missing, None where it is neither text nor a number.

    Text stays as it is: in a csv, "NA", "null" and "1.0" are texts. Truth values are "true" and "false", as in JSON; a
    number without a fraction is written as a whole one (1.0 as "1"), and NaN is a missing value.
    """
    match value:
        case None:
            return ""
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case float():
            return "" if math.isnan(value) else str(int(value)) if value.is_integer() else repr(value)
        case Decimal():
            if value.is_nan():
                return ""
            whole = value.is_finite() and value == value.to_integral_value()
            return str(int(value)) if whole else str(value.normalize())
    return None


def cell_of(value: Any) -> str:
    """Any value as the text of a csv cell: as `text_of`, and JSON where it is a list or a mapping."""
    text = text_of(value)
    if text is None:
        return json.dumps(json_of(value), ensure_ascii=False) if isinstance(value, dict | list) else str(value)
    return text


def json_of(value: Any) -> Any:
    """Any value as one that JSON has: NaN is null, and what is neither text, number, list nor mapping is its text."""
    match value:
        case None | str() | bool() | int():
            return value
        case float():
            return value if math.isfinite(value) else None if math.isnan(value) else str(value)
        case dict():
            return {str(name): json_of(item) for name, item in value.items()}
        case list() | tuple():
            return [json_of(item) for item in value]
    return str(value)
