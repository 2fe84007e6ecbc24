"""Distribution of a metric over rows: a mean of 0.3 may be 0.3 everywhere, or 1 on a few rows and 0 on the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt
import numpy as np

from germinal.figures.kinds import kind_encoding
from germinal.figures.theme import LIGHT, Kind, styled


@dataclass(frozen=True, slots=True)
class RowValues:
    """A candidate's value on each row."""

    label: str
    kind: Kind
    values: Sequence[float]


def row_values(candidates: Sequence[RowValues], *, metric: str, digits: int = 3, width: int = 560) -> Any:
    """For each candidate a bar over the middle half of its rows, a line over the middle 90%, a tick at the median."""
    order = [candidate.label for candidate in candidates]
    rows = [_row(candidate, digits) for candidate in candidates]
    colour, _ = kind_encoding(candidate.kind for candidate in candidates)
    base = alt.Chart(alt.Data(values=rows)).encode(
        y=alt.Y("label:N", sort=order, title=None, axis=alt.Axis(grid=False)),
    )
    scale = alt.Scale(zero=False, nice=False, padding=8)
    line = base.mark_rule(strokeWidth=1.5, opacity=0.6).encode(
        x=alt.X("low:Q", scale=scale, title=metric), x2="high:Q", color=colour
    )
    bar = base.mark_rule(strokeWidth=9, opacity=0.45).encode(
        x=alt.X("quarter:Q", scale=scale, title=metric), x2="three_quarters:Q", color=colour, description="text:N"
    )
    middle = base.mark_tick(thickness=2.5, size=16, color=LIGHT.ink).encode(x=alt.X("median:Q", scale=scale))
    return styled(alt.layer(line, bar, middle).properties(width=width, height=alt.Step(28)))


def _row(candidate: RowValues, digits: int) -> dict[str, Any]:
    names = ("low", "quarter", "median", "three_quarters", "high")
    quantiles = dict(zip(names, np.quantile(candidate.values, (0.05, 0.25, 0.5, 0.75, 0.95)).tolist(), strict=True))
    said = {name: f"{value:.{digits}f}" for name, value in quantiles.items()}
    text = (
        f"{candidate.label}: median {said['median']}, half of the rows from {said['quarter']} to "
        f"{said['three_quarters']}, nine in ten from {said['low']} to {said['high']}"
    )
    return {"label": candidate.label, "kind": candidate.kind, "text": text, **quantiles}
