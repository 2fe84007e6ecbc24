"""Whether probabilities can be believed: how often answers of each confidence were right, against the ideal diagonal.

Bins are of equal width, as in Guo et al. 2017 (arXiv 1706.04599); the dot's area is the number of examples in the bin.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt

from germinal.figures.theme import LIGHT, styled


@dataclass(frozen=True, slots=True)
class Bin:
    """The answers whose confidence fell into one interval."""

    confidence: float
    accuracy: float
    count: int


def bins(confidences: Sequence[float], right: Sequence[bool], number: int = 10) -> list[Bin]:
    """Answers put into `number` equal intervals of confidence; empty ones are left out."""
    groups: dict[int, list[tuple[float, bool]]] = {}
    for confidence, hit in zip(confidences, right, strict=True):
        groups.setdefault(min(int(confidence * number), number - 1), []).append((confidence, hit))
    return [
        Bin(
            confidence=sum(confidence for confidence, _ in group) / len(group),
            accuracy=sum(hit for _, hit in group) / len(group),
            count=len(group),
        )
        for _, group in sorted(groups.items())
    ]


def reliability(found: Sequence[Bin], *, side: int = 300) -> Any:
    """Mean confidence across, share that was right up."""
    rows = [
        {
            "confidence": item.confidence,
            "accuracy": item.accuracy,
            "count": item.count,
            "text": f"{item.count} answers with confidence near {item.confidence:.2f}: {item.accuracy:.0%} right",
        }
        for item in found
    ]
    whole = alt.Scale(domain=[0, 1])
    ideal = (
        alt.Chart(alt.Data(values=[{"x": 0, "y": 0}, {"x": 1, "y": 1}]))
        .mark_line(color=LIGHT.muted, strokeDash=[4, 4], strokeWidth=1.2)
        .encode(x=alt.X("x:Q", scale=whole), y=alt.Y("y:Q", scale=whole))
    )
    base = alt.Chart(alt.Data(values=rows)).encode(
        x=alt.X("confidence:Q", scale=whole, title="confidence of the answer", axis=alt.Axis(grid=False)),
        y=alt.Y("accuracy:Q", scale=whole, title="share that was right"),
    )
    line = base.mark_line(color=LIGHT.prompted, strokeWidth=1.5, opacity=0.6)
    dots = base.mark_circle(color=LIGHT.prompted, opacity=0.85).encode(
        size=alt.Size("count:Q", scale=alt.Scale(range=[30, 420]), legend=None), description="text:N"
    )
    return styled(alt.layer(ideal, line, dots).properties(width=side, height=side))
