"""Reliability diagram: accuracy of the answers by confidence, against the diagonal of perfect calibration.

Bins are of equal width, as in Guo et al. 2017 (arXiv 1706.04599); a dot's area shows the number of answers in its bin.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt
from scipy.stats import binomtest

from germinal.figures.theme import LIGHT, styled


@dataclass(frozen=True, slots=True)
class Bin:
    """Answers with confidence in one interval; `low` and `high` are the Wilson interval (95%) of their accuracy."""

    confidence: float
    accuracy: float
    low: float
    high: float
    count: int


def bins(confidences: Sequence[float], right: Sequence[bool], number: int = 10) -> list[Bin]:
    """Group answers into `number` confidence intervals of equal width; empty ones are left out."""
    groups: dict[int, list[tuple[float, bool]]] = {}
    for confidence, hit in zip(confidences, right, strict=True):
        groups.setdefault(min(int(confidence * number), number - 1), []).append((confidence, hit))
    return [_bin(group) for _, group in sorted(groups.items())]


def _bin(group: Sequence[tuple[float, bool]]) -> Bin:
    hits = sum(hit for _, hit in group)
    interval = binomtest(hits, len(group)).proportion_ci(method="wilson")
    confidence = sum(confidence for confidence, _ in group) / len(group)
    return Bin(confidence, hits / len(group), float(interval.low), float(interval.high), len(group))


def reliability(found: Sequence[Bin], *, side: int = 300) -> Any:
    """Accuracy of each bin, with its 95% interval, against its mean confidence."""
    rows = [
        {
            "confidence": item.confidence,
            "accuracy": item.accuracy,
            "low": item.low,
            "high": item.high,
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
    whisker = base.mark_rule(color=LIGHT.prompted, strokeWidth=1.5, opacity=0.5).encode(
        y=alt.Y("low:Q", scale=whole, title="share that was right"), y2="high:Q"
    )
    dots = base.mark_circle(color=LIGHT.prompted, opacity=0.85).encode(
        size=alt.Size("count:Q", scale=alt.Scale(range=[40, 260]), legend=None), description="text:N"
    )
    return styled(alt.layer(ideal, whisker, dots).properties(width=side, height=side))
