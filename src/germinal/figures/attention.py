"""Attention weights: all heads of one layer side by side, and the selected head enlarged.

A slider selects the layer and a click the head; the tooltip of a cell shows its tokens and its weight.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt

from germinal.figures.theme import LIGHT, styled

_GAP = 0.14  # between heads, as a share of a head's side
_NAME = 14  # pixels above a head, for its name
_SMALLEST, _FONT = 9, 12  # pixels of a cell of the selected head, and of the tokens beside it


def attention(
    weights: Sequence[Sequence[Sequence[Sequence[float]]]],
    queries: Sequence[str],
    keys: Sequence[str],
    *,
    layer: int = 0,
    head: int = 0,
    size: int = 430,
) -> Any:
    """The attention map.

    Args:
        weights: [L, H, T, S], from 0 to 1.
        queries: The T query tokens.
        keys: The S key tokens.
        layer: The layer selected at first.
        head: The head selected at first.
        size: Longer side of the selected head's map, in pixels.
    """
    shown = alt.param(
        name="layer",
        value=layer,
        bind=alt.binding_range(min=0, max=len(weights) - 1, step=1, name="layer "),
    )
    # Only clicks on a frame or a cell count: one beside them would select nothing and leave an empty map.
    picked = alt.selection_point(
        name="picked", fields=["head"], value=[{"head": head}], on="rect:click", clear=False, toggle=False, empty=False
    )
    names = [alt.param(name="queries", value=list(queries)), alt.param(name="keys", value=list(keys))]
    grid = _Grid.of(len(queries), len(keys))
    small = _all_heads(picked, len(weights[0]), grid)
    large = _one_head(picked, grid, max(_SMALLEST, size // max(len(queries), len(keys))))
    chart = alt.hconcat(small, large, spacing=36, data=alt.Data(values=_rows(weights)))
    return styled(chart.add_params(shown, *names))


def _rows(weights: Sequence[Sequence[Sequence[Sequence[float]]]]) -> list[dict[str, Any]]:
    """A row of data for each layer, head and query, in thousandths, without the zeros at the end (masked keys)."""
    rows = []
    for layer, heads in enumerate(weights):
        for head, table in enumerate(heads):
            for query, row in enumerate(table):
                seen = max((place for place, weight in enumerate(row, 1) if weight), default=1)
                looked = [round(1000 * weight) for weight in row[:seen]]
                rows.append({"layer": layer, "head": head, "query": query, "weight": looked})
    return rows


def _cells() -> Any:
    """The cells of the selected layer, one per query and key."""
    text = (
        "'“' + queries[datum.query] + '” attends to “' + keys[datum.key] + '”: ' + format(datum.share, '.1%')"
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


@dataclass(frozen=True, slots=True)
class _Grid:
    """Rows and columns of a head's map; the shorter side is stretched, so that a map never becomes a thin strip."""

    queries: int
    keys: int
    wide: float
    high: float

    @classmethod
    def of(cls, queries: int, keys: int) -> _Grid:
        long = max(queries, keys)
        return cls(queries, keys, *(min(4.0, max(1.0, long / (3 * count))) for count in (keys, queries)))


def _all_heads(picked: Any, heads: int, grid: _Grid) -> Any:
    across = min(6, round(heads**0.5 + 0.3)) or 1
    down = -(-heads // across)
    side = min(150, 420 // across)
    cell = side / max(grid.queries, grid.keys)
    wide, high = cell * grid.wide, cell * grid.high  # size of a cell in pixels
    step_x, step_y = grid.keys + _GAP * side / wide, grid.queries + (_GAP * side + _NAME) / high
    x = alt.Scale(domain=[0, across * step_x], nice=False)
    y = alt.Scale(domain=[down * step_y, -_NAME / high], nice=False)
    cells = (
        _cells()
        .transform_calculate(
            left=f"(datum.head % {across}) * {step_x} + datum.key",
            top=f"floor(datum.head / {across}) * {step_y} + datum.query",
        )
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
    box, label = _frames(picked, [((head % across) * step_x, (head // across) * step_y) for head in range(heads)], grid)
    scaled = [
        each.encode(x=alt.X("left:Q", scale=x, axis=None), y=alt.Y("top:Q", scale=y, axis=None))
        for each in (box, label)
    ]
    return alt.layer(*scaled, cells).properties(
        width=round(across * step_x * wide), height=round(down * step_y * high + _NAME)
    )


def _frames(picked: Any, corners: Sequence[tuple[float, float]], grid: _Grid) -> tuple[Any, Any]:
    """A frame around each head, and its name above it."""
    frames = [
        {
            "head": head,
            "name": f"head {head}",
            "left": left,
            "right": left + grid.keys,
            "top": top,
            "bottom": top + grid.queries,
        }
        for head, (left, top) in enumerate(corners)
    ]
    frame = alt.Chart(alt.Data(values=frames))
    # Frames take clicks too, so that an empty corner of a map also selects its head.
    box = frame.mark_rect(fill=LIGHT.background, fillOpacity=0.01, strokeWidth=1.5, cursor="pointer").encode(
        x2="right:Q",
        y2="bottom:Q",
        stroke=alt.condition(picked, alt.value(LIGHT.tuned), alt.value(LIGHT.grid)),
    )
    label = frame.mark_text(align="left", baseline="bottom", dy=-3, fontSize=11).encode(
        text="name:N", color=alt.condition(picked, alt.value(LIGHT.ink), alt.value(LIGHT.muted))
    )
    return box.add_params(picked), label


def _one_head(picked: Any, grid: _Grid, cell: int) -> Any:
    wide, high = round(cell * grid.wide), round(cell * grid.high)

    def font(room: int) -> int:
        return max(_SMALLEST - 1, min(_FONT, room - 2))

    x = alt.X(
        "key:O",
        title="key",
        scale=alt.Scale(domain=list(range(grid.keys))),
        axis=alt.Axis(
            orient="top", labelExpr="keys[datum.value]", labelAngle=-60, labelFontSize=font(wide), grid=False
        ),
    )
    y = alt.Y(
        "query:O",
        title="query",
        scale=alt.Scale(domain=list(range(grid.queries))),
        axis=alt.Axis(labelExpr="queries[datum.value]", labelFontSize=font(high), grid=False),
    )
    return (
        _cells()
        .transform_filter(picked)
        .mark_rect(color=LIGHT.prompted, stroke=LIGHT.grid, strokeWidth=1)
        .encode(x=x, y=y, fillOpacity=_STRENGTH, tooltip=alt.Tooltip("text:N", title=None), description="text:N")
        .properties(width=grid.keys * wide, height=grid.queries * high)
    )
