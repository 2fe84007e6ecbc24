"""How the next token is chosen: the logits, their probabilities, and which tokens each sampling step removes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt

from germinal.figures.theme import LIGHT, styled

_ROW = 19


@dataclass(frozen=True, slots=True)
class Candidate:
    """A token that could come next.

    Attributes:
        text: The token as shown.
        id: Its id.
        logit: The model's logit.
        probabilities: Its probability after each step, starting with the model's; None once a step has cut it.
    """

    text: str
    id: int
    logit: float
    probabilities: tuple[float | None, ...]


def next_token(candidates: Sequence[Candidate], *, steps: Sequence[str], width: int = 900) -> Any:
    """One row per candidate, with columns for the logit and for each step; a cross marks the step that cut it.

    Args:
        candidates: In the order of the rows.
        steps: Name of each entry of `probabilities`.
        width: Width of all plotting areas together, in pixels.
    """
    panel = min(230, (width - 24 * len(steps)) // (len(steps) + 1))
    order = [_name(candidate) for candidate in candidates]
    height = _ROW * len(candidates)
    panels = [_logits(candidates, order, panel, height)]
    largest = max((p for each in candidates for p in each.probabilities if p is not None), default=1.0)
    for number, step in enumerate(steps):
        panels.append(_probabilities(candidates, order, number, step, largest, panel, height))
    return styled(alt.hconcat(*panels, spacing=24))


def _name(candidate: Candidate) -> str:
    return f"{candidate.text}  {candidate.id}"


def _y(order: Sequence[str], labels: bool) -> Any:
    axis = alt.Axis(grid=False, labels=labels, labelLimit=160)
    return alt.Y("name:N", sort=list(order), title=None, axis=axis)


def _logits(candidates: Sequence[Candidate], order: Sequence[str], width: int, height: int) -> Any:
    rows = [
        {"name": _name(each), "logit": each.logit, "text": f"{each.text} (id {each.id}): logit {each.logit:.3f}"}
        for each in candidates
    ]
    base = alt.Chart(alt.Data(values=rows), title=alt.Title("logit", fontSize=12, frame="group")).encode(
        x=alt.X("logit:Q", title=None, scale=alt.Scale(zero=False), axis=alt.Axis(tickCount=3)),
        y=_y(order, labels=True),
        tooltip=alt.Tooltip("text:N", title=None),
        description="text:N",
    )
    return base.mark_point(color=LIGHT.muted, filled=True, size=50, opacity=1).properties(width=width, height=height)


def _probabilities(
    candidates: Sequence[Candidate],
    order: Sequence[str],
    number: int,
    step: str,
    largest: float,
    width: int,
    height: int,
) -> Any:
    rows = []
    for each in candidates:
        now = each.probabilities[number]
        before = each.probabilities[number - 1] if number else None
        cut_here = now is None and before is not None
        said = f"cut by {step}" if cut_here else f"{now:.4f} after {step}" if now is not None else "cut earlier"
        rows.append(
            {
                "name": _name(each),
                "probability": now or 0.0,
                "cut": cut_here,
                "shown": "✕" if cut_here else "" if now is None else _percent(now),
                "text": f"{each.text} (id {each.id}): {said}",
            }
        )
    base = alt.Chart(alt.Data(values=rows), title=alt.Title(step, fontSize=12, frame="group")).encode(
        y=_y(order, labels=False), tooltip=alt.Tooltip("text:N", title=None), description="text:N"
    )
    x = alt.X(
        "probability:Q",
        title=None,
        # Space at the right for the number of the longest bar.
        scale=alt.Scale(domain=[0, largest * 1.35], nice=False),
        axis=alt.Axis(format="~%", tickCount=3),
    )
    bar = base.mark_bar(color=LIGHT.prompted, height=12, cornerRadiusEnd=2).encode(x=x)
    number_shown = base.mark_text(align="left", dx=4, fontSize=10).encode(
        x=x, text="shown:N", color=alt.condition("datum.cut", alt.value(LIGHT.bad), alt.value(LIGHT.muted))
    )
    return alt.layer(bar, number_shown).properties(width=width, height=height)


def _percent(probability: float) -> str:
    """A percentage with one decimal, or with as many as the first nonzero digit needs: 12.3%, 0.4%, 0.04%."""
    if probability < 1e-6:
        return "<0.0001%"
    return f"{probability:.{max(1, -math.floor(math.log10(probability)) - 2)}%}"


@dataclass(frozen=True, slots=True)
class RankCurve:
    """The vocabulary after one step: (rank, probability) of the remaining tokens, most likely first."""

    step: str
    points: tuple[tuple[int, float], ...]


def vocabulary_curve(curves: Sequence[RankCurve], *, width: int = 560) -> Any:
    """Probability by rank over the whole vocabulary, both axes logarithmic; a dot ends the line of each step."""
    roles = (LIGHT.muted, LIGHT.prompted, LIGHT.tuned, LIGHT.baseline, LIGHT.good, LIGHT.bad, LIGHT.ink)
    steps = [curve.step for curve in curves]
    colour = alt.Color("step:N", sort=steps, scale=alt.Scale(domain=steps, range=list(roles[: len(steps)])))
    rows = [
        {
            "step": curve.step,
            "rank": rank,
            "probability": probability,
            "text": f"{curve.step}: rank {rank:,}, probability {probability:.2g}",
        }
        for curve in curves
        for rank, probability in curve.points
        if probability > 0
    ]
    ends = [
        {**row, "text": f"{row['step']}: the last of {row['rank']:,} remaining tokens"}
        for row, following in zip(rows, [*rows[1:], None], strict=True)
        if following is None or following["step"] != row["step"]
    ]
    likely = [probability for curve in curves for _, probability in curve.points if probability > 0]
    x = alt.X(
        "rank:Q",
        title="rank in the vocabulary",
        scale=alt.Scale(type="log", nice=False),
        axis=_powers([rank for curve in curves for rank, _ in curve.points], "format(datum.value, '~s')", grid=False),
    )
    y = alt.Y(
        "probability:Q",
        title="probability",
        scale=alt.Scale(type="log"),
        axis=_powers(likely, "format(datum.value, datum.value < 1e-3 ? '.0e' : '~')"),
    )
    line = alt.Chart(alt.Data(values=rows)).mark_line(strokeWidth=2).encode(x=x, y=y, color=colour)
    dot = (
        alt.Chart(alt.Data(values=ends))
        .mark_circle(size=70, opacity=1)
        .encode(x=x, y=y, color=colour, tooltip=alt.Tooltip("text:N", title=None), description="text:N")
    )
    return styled(alt.layer(line, dot).properties(width=width, height=260))


def _powers(values: Sequence[float], label: str, *, grid: bool = True) -> Any:
    """An axis with about six ticks at powers of ten."""
    first, last = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    step = max(1, round((last - first) / 6))
    powers = [10.0**power for power in range(last, first - 1, -step)]
    return alt.Axis(values=powers, tickCount=len(powers), labelExpr=label, labelOverlap=False, grid=grid)
