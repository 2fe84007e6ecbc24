"""Quality against cost: seconds or memory on a logarithmic axis, the candidates that nothing cheaper beats joined."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt

from germinal.figures.labels import place
from germinal.figures.theme import KIND_COLOURS, KIND_SHAPES, LIGHT, Kind, styled


@dataclass(frozen=True, slots=True)
class Outcome:
    """One candidate's quality and cost."""

    label: str
    kind: Kind
    value: float
    low: float
    high: float
    cost: float


def frontier(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """The outcomes that no other beats at equal or lower cost, cheapest first."""
    best: list[Outcome] = []
    for outcome in sorted(outcomes, key=lambda outcome: (outcome.cost, -outcome.value)):
        if not best or outcome.value > best[-1].value:
            best.append(outcome)
    return best


def tradeoff(
    outcomes: Sequence[Outcome], *, metric: str, cost: str, unit: str, width: int = 560, height: int = 320
) -> Any:
    """Points with whiskers; those on the frontier carry their names, the others show theirs under the mouse.

    Args:
        outcomes: One point each; a cost of zero is drawn at the left edge, since the axis is logarithmic.
        metric: Title of the vertical axis.
        cost: Title of the horizontal axis.
        unit: Of the cost ("s", "MiB").
        width: Of the plotting area, in pixels.
        height: Of the plotting area, in pixels.
    """
    costs = [outcome.cost for outcome in outcomes if outcome.cost > 0]
    x_domain = [10 ** (math.log10(min(costs, default=1)) - 0.15), 10 ** (math.log10(max(costs, default=10)) + 0.15)]
    ends = [end for outcome in outcomes for end in (outcome.low, outcome.high)]
    air = max((max(ends) - min(ends)) * 0.06, 0.01)
    y_domain = [min(ends) - air, max(ends) + air]
    x_scale = alt.Scale(type="log", domain=x_domain, nice=False)
    y_scale = alt.Scale(domain=y_domain, zero=False, nice=False)
    best = frontier(outcomes)
    rows = [_row(outcome, unit, x_domain[0]) for outcome in outcomes]
    kinds = [kind for kind in KIND_COLOURS if any(outcome.kind == kind for outcome in outcomes)]
    colour = alt.Color(
        "kind:N",
        scale=alt.Scale(domain=kinds, range=[KIND_COLOURS[kind] for kind in kinds]),
        legend=alt.Legend() if len(kinds) > 1 else None,
    )
    shape = alt.Shape("kind:N", scale=alt.Scale(domain=kinds, range=[KIND_SHAPES[kind] for kind in kinds]))
    x = alt.X(
        "cost:Q",
        scale=x_scale,
        title=f"{cost} ({unit})",
        axis=alt.Axis(grid=False, format=",~g", values=_ticks(*x_domain)),
    )
    y = alt.Y("value:Q", scale=y_scale, title=metric)
    base = alt.Chart(alt.Data(values=rows))
    whisker = base.mark_rule(strokeWidth=1.5, opacity=0.35).encode(
        x=x, y=alt.Y("low:Q", scale=y_scale, title=metric), y2="high:Q", color=colour
    )
    dot = base.mark_point(size=75, filled=True, opacity=1).encode(
        x=x, y=y, color=colour, shape=shape, description="text:N"
    )
    edge = alt.Data(values=[row for row, outcome in zip(rows, outcomes, strict=True) if outcome in best])
    line = (
        alt.Chart(edge)
        .mark_line(color=LIGHT.muted, strokeDash=[4, 4], strokeWidth=1.2)
        .encode(x=x, y=y, order=alt.Order("cost:Q"))
    )
    names = _names(rows, [outcome.label for outcome in best], x_domain, y_domain, width, height)
    layers = alt.layer(line, whisker, dot, *names)
    return styled(layers.properties(width=width, height=height))


def _row(outcome: Outcome, unit: str, least: float) -> dict[str, Any]:
    cost = f"{outcome.cost:,.3g} {unit}"
    return {
        "label": outcome.label,
        "kind": outcome.kind,
        "value": outcome.value,
        "low": outcome.low,
        "high": outcome.high,
        "cost": max(outcome.cost, least),
        "text": f"{outcome.label}: {outcome.value:.3f} ({outcome.low:.3f}–{outcome.high:.3f}), {cost}",
    }


def _ticks(low: float, high: float) -> list[float]:
    """Powers of ten, with 2 and 5 between them when fewer than four of those would be seen."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in ((1,), (1, 2, 5)):
        ticks = [step * 10.0**power for power in powers for step in steps if low <= step * 10.0**power <= high]
        if len(ticks) >= 4:
            break
    return ticks


def _names(
    rows: Sequence[dict[str, Any]],
    named: Sequence[str],
    x_domain: Sequence[float],
    y_domain: Sequence[float],
    width: int,
    height: int,
) -> list[Any]:
    """One text layer for each name on the frontier, beside its point where it covers least of what else is drawn."""

    def pixel(row: dict[str, Any], height_of: str = "value") -> tuple[float, float]:
        across = math.log(row["cost"] / x_domain[0]) / math.log(x_domain[1] / x_domain[0])
        down = (y_domain[1] - row[height_of]) / (y_domain[1] - y_domain[0])
        return width * across, height * down

    points = {row["label"]: pixel(row) for row in rows}
    whiskers = [[pixel(row, "low"), pixel(row, "high")] for row in rows]
    frontier_line = [points[label] for label in named]
    labelled = [(points[label], label) for label in named]
    places = place(labelled, list(points.values()), [frontier_line, *whiskers], width, height)
    return [
        alt.Chart(alt.Data(values=[{"text": label}]))
        .mark_text(fontSize=11, align="left", baseline="middle", color=LIGHT.ink)
        .encode(x=alt.value(left), y=alt.value(middle), text="text:N")
        for label, (left, middle) in zip(named, places, strict=True)
    ]
