"""A text as the model reads it: one box per token, which shows its borders, with its id underneath."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt

from germinal.figures.theme import LIGHT, MONOSPACE, styled

_ADVANCE = 8.0  # width of a character at 13 px in the fonts of theme.MONOSPACE
_ROW, _BOX = 50, 24


@dataclass(frozen=True, slots=True)
class Token:
    """One token; a `special` one stands for no text, and the line breaks after one that `ends_line`."""

    text: str
    id: int
    special: bool = False
    ends_line: bool = False


def tokens(sequence: Sequence[Token], *, width: int = 1040) -> Any:
    """Tokens in reading order, wrapped at `width` pixels, in two alternating colours and a third for special tokens."""
    rows, lines = _laid_out(sequence, width)
    height = lines * _ROW
    x, y = alt.Scale(domain=[0, width], nice=False), alt.Scale(domain=[height, 0], nice=False)
    base = alt.Chart(alt.Data(values=rows))
    box = base.mark_rect(fillOpacity=0.16, strokeOpacity=0.55, strokeWidth=1, cornerRadius=3).encode(
        x=alt.X("left:Q", scale=x, axis=None),
        x2="right:Q",
        y=alt.Y("top:Q", scale=y, axis=None),
        y2="bottom:Q",
        color=alt.Color("kind:N", scale=_KINDS, legend=None),
        stroke=alt.Stroke("kind:N", scale=_KINDS, legend=None),
        tooltip=alt.Tooltip("text:N", title=None),
        description="text:N",
    )
    middle = alt.X("middle:Q", scale=x, axis=None)
    name = base.mark_text(font=MONOSPACE, fontSize=13, baseline="middle").encode(
        x=middle, y=alt.Y("centre:Q", scale=y, axis=None), text="shown:N"
    )
    number = base.mark_text(font=MONOSPACE, fontSize=10, baseline="top", color=LIGHT.muted, dy=3).encode(
        x=middle, y=alt.Y("bottom:Q", scale=y, axis=None), text="id:N"
    )
    return styled(alt.layer(box, name, number).properties(width=width, height=height))


_KINDS = alt.Scale(domain=["even", "odd", "special"], range=[LIGHT.prompted, LIGHT.tuned, LIGHT.baseline])


def _laid_out(sequence: Sequence[Token], width: int) -> tuple[list[dict[str, Any]], int]:
    """A row of data for each token, and the number of lines."""
    rows: list[dict[str, Any]] = []
    left, line = 0.0, 0
    for place, token in enumerate(sequence):
        long = max(columns(token.text), 0.8 * len(str(token.id)), 1.0) * _ADVANCE + 10
        if left and left + long > width:
            left, line = 0.0, line + 1
        top = line * _ROW + 4
        rows.append(
            {
                "left": left,
                "right": left + long,
                "middle": left + long / 2,
                "top": top,
                "bottom": top + _BOX,
                "centre": top + _BOX / 2 + 1,
                "shown": token.text,
                "id": str(token.id),
                "kind": "special" if token.special else ("even", "odd")[place % 2],
                "text": f"token {place}: {token.text}, id {token.id}",
            }
        )
        left += long + 4
        if token.ends_line:
            left, line = 0.0, line + 1
    return rows, line + (left > 0)


def columns(text: str) -> int:
    """Width of a text in columns of a monospaced font: characters of East Asian scripts and emoji take two."""
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)
