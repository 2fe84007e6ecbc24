"""Who looks at whom: all heads of one layer side by side, and the one that is picked at full size.

A slider picks the layer, a click the head, the mouse over a cell says its tokens and its weight.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt

from germinal.figures.theme import LIGHT, styled

_GAP = 0.14  # between heads, as a part of a head's side


def attention(
    weights: Sequence[Sequence[Sequence[Sequence[float]]]],
    queries: Sequence[str],
    keys: Sequence[str],
    *,
    layer: int = 0,
    head: int = 0,
    size: int = 430,
) -> Any:
    """The map of attention.

    Args:
        weights: [L, H, T, S], from 0 to 1.
        queries: The T tokens that look.
        keys: The S tokens that are looked at.
        layer: The layer that is shown first.
        head: The head that is picked first.
        size: Longest side of the picked head's map, in pixels.
    """
    shown = alt.param(
        name="layer",
        value=layer,
        bind=alt.binding_range(min=0, max=len(weights) - 1, step=1, name="layer "),
    )
    picked = alt.selection_point(
        name="picked", fields=["head"], value=[{"head": head}], on="click", clear=False, toggle=False, empty=False
    )
    names = [alt.param(name="queries", value=list(queries)), alt.param(name="keys", value=list(keys))]
    long = max(len(queries), len(keys))
    small = _all_heads(picked, len(weights[0]), len(queries), len(keys), long)
    large = _one_head(picked, len(queries), len(keys), max(7, size // long), head)
    chart = alt.hconcat(small, large, spacing=36, data=alt.Data(values=_rows(weights)))
    return styled(chart.add_params(shown, *names))


def _rows(weights: Sequence[Sequence[Sequence[Sequence[float]]]]) -> list[dict[str, Any]]:
    """A row of data for each layer, head and query, in thousandths; what a query may not see at its end is left out."""
    rows = []
    for layer, heads in enumerate(weights):
        for head, table in enumerate(heads):
            for query, row in enumerate(table):
                seen = max((place for place, weight in enumerate(row, 1) if weight), default=1)
                looked = [round(1000 * weight) for weight in row[:seen]]
                rows.append({"layer": layer, "head": head, "query": query, "weight": looked})
    return rows


def _cells() -> Any:
    """The cells of the layer that is shown, one a query and key."""
    text = (
        "'“' + queries[datum.query] + '” looks at “' + keys[datum.key] + '”: ' + format(datum.share, '.1%')"
        " + ' (layer ' + datum.layer + ', head ' + datum.head + ')'"
    )
    return (
        alt.Chart()
        .transform_filter("datum.layer == layer")
        .transform_flatten(["weight"])
        .transform_window(place="row_number()", groupby=["head", "query"])
        .transform_calculate(key="datum.place - 1", share="datum.weight / 1000", text=text)
    )


_STRENGTH = alt.Opacity("share:Q", scale=alt.Scale(domain=[0, 1], range=[0, 1], type="sqrt"), legend=None)


def _all_heads(picked: Any, heads: int, queries: int, keys: int, long: int) -> Any:
    across = min(6, round(heads**0.5 + 0.3)) or 1
    down = -(-heads // across)
    side = min(150, 420 // across)
    step_x, step_y = keys + _GAP * long, queries + _GAP * long + long * 14 / side
    origin = {
        "left": f"(datum.head % {across}) * {step_x} + datum.key",
        "top": f"floor(datum.head / {across}) * {step_y} + datum.query",
    }
    x = alt.Scale(domain=[0, across * step_x], nice=False)
    y = alt.Scale(domain=[down * step_y, -long * 14 / side], nice=False)
    cells = (
        _cells()
        .transform_calculate(**origin)
        .transform_calculate(right="datum.left + 1", bottom="datum.top + 1")
        .mark_rect(color=LIGHT.prompted, aria=False)
        .encode(
            x=alt.X("left:Q", scale=x, axis=None),
            x2="right:Q",
            y=alt.Y("top:Q", scale=y, axis=None),
            y2="bottom:Q",
            fillOpacity=_STRENGTH,
            tooltip=alt.Tooltip("text:N", title=None),
        )
    )
    frames = [
        {
            "head": head,
            "name": f"head {head}",
            "left": (head % across) * step_x,
            "right": (head % across) * step_x + keys,
            "top": (head // across) * step_y,
            "bottom": (head // across) * step_y + queries,
        }
        for head in range(heads)
    ]
    frame = alt.Chart(alt.Data(values=frames)).encode(
        x=alt.X("left:Q", scale=x, axis=None), y=alt.Y("top:Q", scale=y, axis=None)
    )
    # The frames are the larger target for the mouse, so that an empty corner can be clicked too.
    box = frame.mark_rect(fill=LIGHT.background, fillOpacity=0.01, strokeWidth=1.5, cursor="pointer").encode(
        x2="right:Q",
        y2="bottom:Q",
        stroke=alt.condition(picked, alt.value(LIGHT.tuned), alt.value(LIGHT.grid)),
    )
    label = frame.mark_text(align="left", baseline="bottom", dy=-3, fontSize=11).encode(
        text="name:N", color=alt.condition(picked, alt.value(LIGHT.ink), alt.value(LIGHT.muted))
    )
    wide, high = side * step_x / long, side * step_y / long
    return alt.layer(box.add_params(picked), label, cells).properties(
        width=round(across * wide), height=round(down * high + 14)
    )


def _one_head(picked: Any, queries: int, keys: int, cell: int, head: int) -> Any:
    font = max(7, min(12, cell))
    x = alt.X(
        "key:O",
        title="looked at",
        scale=alt.Scale(domain=list(range(keys))),
        axis=alt.Axis(orient="top", labelExpr="keys[datum.value]", labelAngle=-60, labelFontSize=font, grid=False),
    )
    y = alt.Y(
        "query:O",
        title="looks",
        scale=alt.Scale(domain=list(range(queries))),
        axis=alt.Axis(labelExpr="queries[datum.value]", labelFontSize=font, grid=False),
    )
    return (
        _cells()
        .transform_filter(picked)
        .mark_rect(color=LIGHT.prompted, stroke=LIGHT.grid, strokeWidth=1)
        .encode(x=x, y=y, fillOpacity=_STRENGTH, tooltip=alt.Tooltip("text:N", title=None), description="text:N")
        .properties(width=keys * cell, height=queries * cell)
    )
