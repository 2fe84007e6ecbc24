"""How a prediction develops over the layers: the top token after each layer, and the probabilities of its rivals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt

from germinal.figures.theme import LIGHT, styled

_ROW = 20


@dataclass(frozen=True, slots=True)
class Guess:
    """The most likely prediction at `place` if the network stopped after `layer` (0: after the embedding)."""

    layer: int
    place: int
    token: str
    probability: float


def guesses(found: Sequence[Guess], tokens: Sequence[str], *, expected: str = "comes next", width: int = 960) -> Any:
    """The most likely token after each layer at each place, the last layer on top; stronger colour is more probable.

    Args:
        found: One guess for each layer and place.
        tokens: The tokens at the places, in order.
        expected: What is predicted ("comes next"), for the tooltip.
        width: Maximum width in pixels.
    """
    last = max(guess.layer for guess in found)
    cell = max(46, min(96, width // max(1, len(tokens))))
    room = int(cell / 6.6)
    rows = [
        {
            "layer": guess.layer,
            "place": guess.place,
            "probability": guess.probability,
            "shown": guess.token if len(guess.token) <= room else guess.token[: room - 1] + "…",
            "text": f"after {_layer(guess.layer, last)}, at “{tokens[guess.place]}”: “{guess.token}” {expected}, "
            f"{guess.probability:.1%}",
        }
        for guess in found
    ]
    names = alt.param(name="tokens", value=[_short(token, room) for token in tokens])
    base = alt.Chart(alt.Data(values=rows)).encode(
        x=alt.X(
            "place:O",
            title=None,
            axis=alt.Axis(orient="top", labelExpr="tokens[datum.value]", labelAngle=0, labelLimit=cell, grid=False),
        ),
        y=alt.Y(
            "layer:O",
            title="layer",
            sort="descending",
            axis=alt.Axis(labelExpr="datum.value == 0 ? 'embedding' : datum.value - 1", grid=False),
        ),
    )
    square = base.mark_rect(color=LIGHT.prompted, stroke=LIGHT.background, strokeWidth=1).encode(
        fillOpacity=alt.Opacity("probability:Q", scale=alt.Scale(domain=[0, 1], range=[0.04, 0.95]), legend=None),
        tooltip=alt.Tooltip("text:N", title=None),
        description="text:N",
    )
    ink = alt.condition("datum.probability > 0.7", alt.value(LIGHT.on_fill), alt.value(LIGHT.ink))
    word = base.mark_text(fontSize=11, limit=cell - 4).encode(text="shown:N", color=ink)
    chart = alt.layer(square, word).properties(width=alt.Step(cell), height=alt.Step(_ROW))
    return styled(chart.add_params(names))


def _short(token: str, room: int) -> str:
    return token if len(token) <= room else token[: room - 1] + "…"


def _layer(layer: int, last: int) -> str:
    if layer == 0:
        return "the embedding"
    return f"layer {layer - 1}" + (", the last" if layer == last else "")


@dataclass(frozen=True, slots=True)
class Growth:
    """The probability of one token after the embedding and after each layer."""

    token: str
    probabilities: tuple[float, ...]


def growth(series: Sequence[Growth], *, width: int = 560) -> Any:
    """One line per token, the most likely first, at most six."""
    roles = (LIGHT.prompted, LIGHT.tuned, LIGHT.baseline, LIGHT.good, LIGHT.bad, LIGHT.muted)
    names = [each.token for each in series[: len(roles)]]
    rows = [
        {
            "token": each.token,
            "layer": layer - 1,
            "probability": probability,
            "text": f"“{each.token}” after {_layer(layer, len(each.probabilities) - 1)}: {probability:.1%}",
        }
        for each in series[: len(roles)]
        for layer, probability in enumerate(each.probabilities)
    ]
    last = max((len(each.probabilities) - 2 for each in series), default=0)
    step = max(1, last // 6)
    ticks = [-1, *range(max(1, step), last + 1, step)]
    base = alt.Chart(alt.Data(values=rows)).encode(
        x=alt.X(
            "layer:Q",
            title="after layer",
            scale=alt.Scale(nice=False),
            axis=alt.Axis(
                grid=False,
                offset=8,
                values=ticks,
                tickCount=len(ticks),
                labelExpr="datum.value < 0 ? 'embedding' : datum.value",
            ),
        ),
        y=alt.Y("probability:Q", title="probability", axis=alt.Axis(format="~%")),
        color=alt.Color("token:N", sort=names, scale=alt.Scale(domain=names, range=list(roles[: len(names)]))),
    )
    line = base.mark_line(strokeWidth=2)
    dots = base.mark_circle(size=45, opacity=1).encode(tooltip=alt.Tooltip("text:N", title=None), description="text:N")
    return styled(alt.layer(line, dots).properties(width=width, height=260))
