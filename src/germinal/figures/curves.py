"""Loss curves of a tuning run: the loss of the training batches and of the held-out part, by optimizer step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt

from germinal.figures.theme import LIGHT, styled

TRAINING, HELD_OUT = "training batches", "held-out part"


@dataclass(frozen=True, slots=True)
class LossPoint:
    """The loss of one series at one step."""

    step: int
    loss: float
    held_out: bool = False


def loss_curve(points: Sequence[LossPoint], *, best_step: int | None = None, width: int = 560) -> Any:
    """Training loss as a thin line, held-out loss as a line with dots; the kept step is marked."""
    rows = [_row(point) for point in points]
    series = [name for name in (TRAINING, HELD_OUT) if any(row["series"] == name for row in rows)]
    of = {TRAINING: LIGHT.muted, HELD_OUT: LIGHT.tuned}
    scale = alt.Scale(domain=series, range=[of[name] for name in series])
    base = alt.Chart(alt.Data(values=rows)).encode(
        x=alt.X("step:Q", title="optimizer step", axis=alt.Axis(grid=False, tickMinStep=1)),
        y=alt.Y("loss:Q", title="loss", scale=alt.Scale(zero=False)),
        color=alt.Color("series:N", scale=scale, legend=alt.Legend() if len(series) > 1 else None),
    )
    line = base.mark_line(strokeWidth=2, opacity=0.85).encode(detail="series:N")
    dots = (
        base.transform_filter(alt.datum.series == HELD_OUT).mark_circle(size=60, opacity=1).encode(description="text:N")
    )
    layers = [line, dots]
    if best_step is not None:
        layers = [*_kept(best_step), *layers]
    return styled(alt.layer(*layers).properties(width=width, height=240))


def _row(point: LossPoint) -> dict[str, Any]:
    series = HELD_OUT if point.held_out else TRAINING
    text = f"{series}, step {point.step}: {point.loss:.4f}"
    return {"step": point.step, "loss": point.loss, "series": series, "text": text}


def _kept(step: int) -> list[Any]:
    data = alt.Data(values=[{"step": step, "text": f"kept: step {step}"}])
    rule = alt.Chart(data).mark_rule(color=LIGHT.muted, strokeDash=[4, 4]).encode(x="step:Q", description="text:N")
    label = (
        alt.Chart(data)
        .mark_text(color=LIGHT.muted, fontSize=11, align="right", dx=-5, baseline="top")
        .encode(x="step:Q", y=alt.value(0), text="text:N")
    )
    return [rule, label]
