"""Lengths of answers against those of their references: shorter and longer texts both lose in every metric."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt

from germinal.figures.theme import LIGHT, styled


def lengths(pairs: Sequence[tuple[int, int]], *, side: int = 300) -> Any:
    """One dot per row: the answer's length against the reference's, in characters, with the diagonal of equal length.

    Args:
        pairs: (reference, answer) lengths of each row, in characters.
        side: Side of the plotting area, in pixels.
    """
    most = max(max(pair) for pair in pairs)
    scale = alt.Scale(domain=[0, max(1, most)], nice=True)
    rows = [
        {
            "reference": reference,
            "answer": answer,
            "text": f"reference of {reference:,} characters, answer of {answer:,}",
        }
        for reference, answer in pairs
    ]
    equal = (
        alt.Chart(alt.Data(values=[{"x": 0, "y": 0}, {"x": max(1, most), "y": max(1, most)}]))
        .mark_line(color=LIGHT.muted, strokeDash=[4, 4], strokeWidth=1.2)
        .encode(x=alt.X("x:Q", scale=scale), y=alt.Y("y:Q", scale=scale))
    )
    dots = (
        alt.Chart(alt.Data(values=rows))
        .mark_circle(color=LIGHT.prompted, opacity=0.5, size=40)
        .encode(
            x=alt.X("reference:Q", scale=scale, title="characters of the reference", axis=alt.Axis(grid=False)),
            y=alt.Y("answer:Q", scale=scale, title="characters of the answer"),
            description="text:N",
        )
    )
    return styled(alt.layer(equal, dots).properties(width=side, height=side))
