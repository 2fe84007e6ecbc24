"""Quality against cost: one point per candidate, with the Pareto frontier as a line.

The cost axis is logarithmic if the most expensive candidate costs over 20 times as much as the cheapest, else linear.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt

from germinal.figures.kinds import kind_encoding
from germinal.figures.labels import place
from germinal.figures.theme import LIGHT, Kind, styled

_LOGARITHMIC_FROM = 20.0  # ratio of the highest to the lowest cost


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
    """The Pareto frontier: outcomes that no other beats at equal or lower cost, cheapest first."""
    best: list[Outcome] = []
    for outcome in sorted(outcomes, key=lambda outcome: (outcome.cost, -outcome.value)):
        if not best or outcome.value > best[-1].value:
            best.append(outcome)
    return best


@dataclass(frozen=True, slots=True)
class _Frame:
    """The plotting area: the values at its edges, and the pixel coordinates of a point."""

    cost_domain: tuple[float, float]
    value_domain: tuple[float, float]
    logarithmic: bool
    width: int
    height: int

    @classmethod
    def around(cls, outcomes: Sequence[Outcome], width: int, height: int) -> _Frame:
        ends = [end for outcome in outcomes for end in (outcome.low, outcome.high)]
        air = max((max(ends) - min(ends)) * 0.06, 0.01)
        values = (min(ends) - air, max(ends) + air)
        costs = [outcome.cost for outcome in outcomes if outcome.cost > 0] or [1.0]
        if max(costs) > _LOGARITHMIC_FROM * min(costs):
            return cls((min(costs) / 1.4, max(costs) * 1.4), values, True, width, height)
        return cls((0.0, max(costs) * 1.12), values, False, width, height)

    def drawn_cost(self, cost: float) -> float:
        """The cost as drawn: a logarithmic axis has no 0, so a cost of 0 is drawn at its left edge."""
        return max(cost, self.cost_domain[0])

    def pixel(self, cost: float, value: float) -> tuple[float, float]:
        low, high, cost = *self.cost_domain, self.drawn_cost(cost)
        across = math.log(cost / low) / math.log(high / low) if self.logarithmic else (cost - low) / (high - low)
        down = (self.value_domain[1] - value) / (self.value_domain[1] - self.value_domain[0])
        return self.width * across, self.height * down

    def scales(self) -> tuple[Any, Any]:
        kind = "log" if self.logarithmic else "linear"
        across = alt.Scale(type=kind, domain=list(self.cost_domain), nice=False)
        return across, alt.Scale(domain=list(self.value_domain), zero=False, nice=False)

    def cost_axis(self) -> Any:
        ticks = {"values": _powers_of_ten(*self.cost_domain)} if self.logarithmic else {"tickCount": 5}
        return alt.Axis(grid=False, format=",~r", **ticks)


def tradeoff(
    outcomes: Sequence[Outcome], *, metric: str, cost: str, unit: str, width: int = 560, height: int = 320
) -> Any:
    """Points with whiskers; those on the frontier are labelled, the others have a tooltip only.

    Args:
        outcomes: One point each.
        metric: Title of the vertical axis.
        cost: Title of the horizontal axis.
        unit: Unit of the cost ("s", "MiB").
        width: Width of the plotting area, in pixels.
        height: Height of the plotting area, in pixels.
    """
    frame = _Frame.around(outcomes, width, height)
    best = frontier(outcomes)
    across, up = frame.scales()
    x = alt.X("cost:Q", scale=across, title=f"{cost} ({unit})", axis=frame.cost_axis())
    y = alt.Y("value:Q", scale=up, title=metric)
    colour, shape = kind_encoding(outcome.kind for outcome in outcomes)
    base = alt.Chart(alt.Data(values=[_row(outcome, unit, frame) for outcome in outcomes]))
    whisker = base.mark_rule(strokeWidth=1.5, opacity=0.35).encode(
        x=x, y=alt.Y("low:Q", scale=up, title=metric), y2="high:Q", color=colour
    )
    dot = base.mark_point(size=75, filled=True, opacity=1).encode(
        x=x, y=y, color=colour, shape=shape, description="text:N"
    )
    line = (
        alt.Chart(alt.Data(values=[_row(outcome, unit, frame) for outcome in best]))
        .mark_line(color=LIGHT.muted, strokeDash=[4, 4], strokeWidth=1.2)
        .encode(x=x, y=y, order=alt.Order("cost:Q"))
    )
    layers = alt.layer(line, whisker, dot, *_names(best, outcomes, frame))
    return styled(layers.properties(width=width, height=height))


def _row(outcome: Outcome, unit: str, frame: _Frame) -> dict[str, Any]:
    cost = f"{outcome.cost:,.3g} {unit}"
    return {
        "label": outcome.label,
        "kind": outcome.kind,
        "value": outcome.value,
        "low": outcome.low,
        "high": outcome.high,
        "cost": frame.drawn_cost(outcome.cost),
        "text": f"{outcome.label}: {outcome.value:.3f} ({outcome.low:.3f}–{outcome.high:.3f}), {cost}",
    }


def _powers_of_ten(low: float, high: float) -> list[float]:
    """Ticks of a logarithmic axis: powers of ten, and their multiples by 2 and 5 if there were fewer than four."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in ((1,), (1, 2, 5)):
        ticks = [step * 10.0**power for power in powers for step in steps if low <= step * 10.0**power <= high]
        if len(ticks) >= 4:
            break
    return ticks


def _names(named: Sequence[Outcome], outcomes: Sequence[Outcome], frame: _Frame) -> list[Any]:
    """One text layer for each label, beside its point where it overlaps least with the rest of the chart."""
    points = [frame.pixel(outcome.cost, outcome.value) for outcome in outcomes]
    corners = [frame.pixel(outcome.cost, outcome.value) for outcome in named]
    whiskers = [[frame.pixel(item.cost, end) for end in (item.low, item.high)] for item in outcomes]
    labelled = [(corner, outcome.label) for corner, outcome in zip(corners, named, strict=True)]
    places = place(labelled, points, [corners, *whiskers], frame.width, frame.height)
    return [
        alt.Chart(alt.Data(values=[{"text": outcome.label}]))
        .mark_text(fontSize=11, align="left", baseline="middle", color=LIGHT.ink)
        .encode(x=alt.value(left), y=alt.value(middle), text="text:N")
        for outcome, (left, middle) in zip(named, places, strict=True)
    ]
