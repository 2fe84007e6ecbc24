"""How good each candidate is, and how sure that is: a dot for the estimate, a whisker for its 95% interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt

from germinal.figures.theme import KIND_COLOURS, KIND_SHAPES, LIGHT, Kind, styled


@dataclass(frozen=True, slots=True)
class Estimate:
    """One candidate's figure on one split; `marked` candidates (the winner, the tied set) are drawn filled."""

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
    """Dot and whisker, best on top in the order given.

    Args:
        estimates: One row each.
        metric: The axis title.
        criterion: The value that the project calls success: a solid line.
        reference: The best baseline: a dashed line.
        width: Of the plotting area, in pixels.
    """
    order = [estimate.label for estimate in estimates]
    data = alt.Data(values=[_row(estimate) for estimate in estimates])
    kinds = [kind for kind in KIND_COLOURS if any(estimate.kind == kind for estimate in estimates)]
    y = alt.Y("label:N", sort=order, title=None, scale=alt.Scale(paddingInner=0.4), axis=alt.Axis(grid=False))
    x_scale = alt.Scale(domain=_domain(estimates, criterion), nice=False, zero=False)
    colour = alt.Color("kind:N", scale=_scale(kinds, KIND_COLOURS), legend=alt.Legend() if len(kinds) > 1 else None)
    base = alt.Chart(data)
    whisker = base.mark_rule(strokeWidth=2, opacity=0.75).encode(
        y=y, x=alt.X("low:Q", scale=x_scale, title=metric), x2="high:Q", color=colour, description="text:N"
    )
    dot = base.mark_point(size=80, strokeWidth=2, opacity=1).encode(
        y=y,
        x=alt.X("value:Q", scale=x_scale, title=metric),
        color=colour,
        shape=alt.Shape("kind:N", scale=_scale(kinds, KIND_SHAPES)),
        fill=alt.condition("datum.marked", colour, alt.value(LIGHT.background)),
        description="text:N",
    )
    return styled(
        alt.layer(*_lines(criterion, reference, x_scale), whisker, dot).properties(width=width, height=alt.Step(24))
    )


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


def _scale(kinds: Sequence[str], of: dict[str, str]) -> Any:
    return alt.Scale(domain=list(kinds), range=[of[kind] for kind in kinds])


def _domain(estimates: Sequence[Estimate], criterion: float | None) -> list[float]:
    """The interval ends with a little air, so that differences can be seen; a dot plot needs no zero."""
    ends = [end for estimate in estimates for end in (estimate.low, estimate.high)]
    ends += [] if criterion is None else [criterion]
    low, high = min(ends, default=0.0), max(ends, default=1.0)
    air = max((high - low) * 0.05, 0.01)
    return [low - air, high + air]


def _lines(criterion: float | None, reference: float | None, scale: Any) -> list[Any]:
    lines = []
    for value, text, dash in ((reference, "best baseline", [4, 4]), (criterion, "criterion", [1, 0])):
        if value is None:
            continue
        data = alt.Data(values=[{"value": value, "text": f"{text}: {value:.3f}"}])
        x = alt.X("value:Q", scale=scale)
        rule = alt.Chart(data).mark_rule(color=LIGHT.muted, strokeDash=dash).encode(x=x, description="text:N")
        label = (
            alt.Chart(data)
            .mark_text(color=LIGHT.muted, fontSize=11, dy=-8, baseline="bottom")
            .encode(x=x, y=alt.value(0), text=alt.value(text))
        )
        lines += [rule, label]
    return lines
