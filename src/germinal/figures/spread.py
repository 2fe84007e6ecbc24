"""How much a few-shot result varies with the choice of its examples: one dot per choice, a tick for their mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt

from germinal.figures.theme import LIGHT, styled


@dataclass(frozen=True, slots=True)
class Replicate:
    """A candidate's value with one choice of examples."""

    label: str
    seed: int
    value: float


def spread(replicates: Sequence[Replicate], *, metric: str, width: int = 560) -> Any:
    """One strip of dots per candidate, in the order given."""
    order = list(dict.fromkeys(replicate.label for replicate in replicates))
    rows = [
        {
            "label": replicate.label,
            "value": replicate.value,
            "text": f"{replicate.label}, shot seed {replicate.seed}: {replicate.value:.3f}",
        }
        for replicate in replicates
    ]
    base = alt.Chart(alt.Data(values=rows))
    y = alt.Y("label:N", sort=order, title=None, axis=alt.Axis(grid=False))
    scale = alt.Scale(zero=False, nice=False, padding=14)
    extent = base.mark_rule(strokeWidth=2, color=LIGHT.grid).encode(
        y=y, x=alt.X("min(value):Q", scale=scale, title=metric), x2="max(value):Q"
    )
    mean = base.mark_tick(thickness=2, size=18, color=LIGHT.ink).encode(y=y, x=alt.X("mean(value):Q", scale=scale))
    dot = base.mark_circle(size=85, color=LIGHT.prompted, opacity=0.75).encode(
        y=y, x=alt.X("value:Q", scale=scale, title=metric), description="text:N"
    )
    return styled(alt.layer(extent, mean, dot).properties(width=width, height=alt.Step(28)))
