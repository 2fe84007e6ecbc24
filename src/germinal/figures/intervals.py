"""The value of each candidate with its uncertainty: a dot for the estimate, a whisker for its 95% interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt

from germinal.figures.kinds import kind_encoding
from germinal.figures.theme import LIGHT, Kind, styled


@dataclass(frozen=True, slots=True)
class Estimate:
    """One candidate's value on one split; `marked` candidates (the winner, the tied set) are drawn filled."""

    label: str
    kind: Kind
    value: float
    low: float
    high: float
    marked: bool = False


def intervals(
    estimates: Sequence[Estimate],
    *,
    metric: str,
    criterion: float | None = None,
    reference: float | None = None,
    width: int = 560,
) -> Any:
    """One dot and whisker per estimate, from top to bottom in the order given.

    Args:
        estimates: One row each.
        metric: The axis title.
        criterion: The project's success criterion, drawn as a solid line.
        reference: The value of the best baseline, drawn as a dashed line.
        width: Width of the plotting area, in pixels.
    """
    order = [estimate.label for estimate in estimates]
    data = alt.Data(values=[_row(estimate) for estimate in estimates])
    y = alt.Y("label:N", sort=order, title=None, scale=alt.Scale(paddingInner=0.4), axis=alt.Axis(grid=False))
    x_scale = alt.Scale(domain=_domain(estimates, criterion), nice=False, zero=False)
    lines = _lines(criterion, reference, x_scale)
    legend_offset = 24 if lines else 8  # leaves space for the names of the lines
    colour, shape = kind_encoding((estimate.kind for estimate in estimates), legend_offset=legend_offset)
    base = alt.Chart(data)
    whisker = base.mark_rule(strokeWidth=2, opacity=0.75).encode(
        y=y, x=alt.X("low:Q", scale=x_scale, title=metric), x2="high:Q", color=colour, description="text:N"
    )
    dot = base.mark_point(size=80, strokeWidth=2, opacity=1).encode(
        y=y,
        x=alt.X("value:Q", scale=x_scale, title=metric),
        color=colour,
        shape=shape,
        fill=alt.condition("datum.marked", colour, alt.value(LIGHT.background)),
        description="text:N",
    )
    return styled(alt.layer(*lines, whisker, dot).properties(width=width, height=alt.Step(24)))


def _row(estimate: Estimate) -> dict[str, Any]:
    text = f"{estimate.label}: {estimate.value:.3f}, 95% interval {estimate.low:.3f} to {estimate.high:.3f}"
    return {
        "label": estimate.label,
        "kind": estimate.kind,
        "value": estimate.value,
        "low": estimate.low,
        "high": estimate.high,
        "marked": estimate.marked,
        "text": text,
    }


def _domain(estimates: Sequence[Estimate], criterion: float | None) -> list[float]:
    """The range of the intervals with a small margin. It need not include 0, so that differences stay visible."""
    ends = [end for estimate in estimates for end in (estimate.low, estimate.high)]
    ends += [] if criterion is None else [criterion]
    low, high = min(ends, default=0.0), max(ends, default=1.0)
    air = max((high - low) * 0.05, 0.01)
    return [low - air, high + air]


def _lines(criterion: float | None, reference: float | None, scale: Any) -> list[Any]:
    """The lines that candidates are compared with; names are on the outer sides, so that those of close lines fit."""
    wanted = [("best baseline", reference, [4, 4]), ("criterion", criterion, [1, 0])]
    known = sorted(((value, name, dash) for name, value, dash in wanted if value is not None), key=lambda line: line[0])
    lines = []
    for value, name, dash in known:
        align = "center" if len(known) == 1 else "right" if value == known[0][0] and name == known[0][1] else "left"
        data = alt.Data(values=[{"value": value, "text": f"{name}: {value:.3f}"}])
        x = alt.X("value:Q", scale=scale)
        rule = alt.Chart(data).mark_rule(color=LIGHT.muted, strokeDash=dash).encode(x=x, description="text:N")
        shift = {"center": 0, "right": 3, "left": -3}[align]
        label = (
            alt.Chart(data)
            .mark_text(color=LIGHT.muted, fontSize=11, dy=-6, dx=shift, align=align, baseline="bottom")
            .encode(x=x, y=alt.value(0), text=alt.value(name))
        )
        lines += [rule, label]
    return lines
