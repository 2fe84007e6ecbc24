"""How a candidate's kind is drawn in every chart: by a colour, and by a shape that is readable without colour."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import altair as alt

from germinal.figures.theme import KIND_COLOURS, KIND_SHAPES


def kind_encoding(kinds: Iterable[str], legend_offset: int = 8) -> tuple[Any, Any]:
    """Colour and shape channels for the kinds that occur, with a legend if there are several."""
    present = set(kinds)
    domain = [kind for kind in KIND_COLOURS if kind in present]
    legend = alt.Legend(offset=legend_offset) if len(domain) > 1 else None
    colour = alt.Color("kind:N", scale=_scale(domain, KIND_COLOURS), legend=legend)
    return colour, alt.Shape("kind:N", scale=_scale(domain, KIND_SHAPES))


def _scale(domain: list[str], of: dict[str, str]) -> Any:
    return alt.Scale(domain=domain, range=[of[kind] for kind in domain])
