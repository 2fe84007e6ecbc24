"""A table of numbers as a heat map: the hue shows the sign, its strength the absolute value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt

from germinal.figures.theme import LIGHT, styled


def signed_map(
    values: Sequence[Sequence[float]],
    *,
    columns: Sequence[int],
    x_title: str,
    y_title: str,
    value_title: str,
    cell: tuple[int, int] = (8, 6),
    full: float | None = None,
) -> Any:
    """One cell per number, rows from top to bottom.

    Args:
        values: Rows of equal length.
        columns: The number that labels each column; rows are numbered from 0.
        x_title, y_title, value_title: Names of the columns, the rows and the cells' values.
        cell: Width and height of a cell, in pixels.
        full: Absolute value from which the colour has full strength; None takes the largest one.
    """
    across, down = len(columns), len(values)
    limit = full or max((abs(value) for row in values for value in row), default=0.0) or 1.0
    text = (
        f"'{x_title} ' + columns[datum.place - 1] + ', {y_title} ' + datum.row"
        f" + ': {value_title} ' + format(datum.value, '.3f')"
    )
    chart = (
        _cells(values, limit, text)
        .mark_rect()
        .encode(
            x=alt.X("left:Q", title=x_title, **_axis(columns, [0, across], 14, "columns[floor(datum.value)]")),
            x2="right:Q",
            y=alt.Y("top:Q", title=y_title, **_axis(range(down), [down, 0], 16, "floor(datum.value)")),
            y2="bottom:Q",
            color=_sign_colours(limit),
            fillOpacity=alt.Opacity("size:Q", scale=alt.Scale(domain=[0, 1], range=[0, 1], clamp=True), legend=None),
            tooltip=alt.Tooltip("text:N", title=None),
            description="text:N",
        )
        .properties(width=across * cell[0], height=down * cell[1])
        .add_params(alt.param(name="columns", value=list(columns)))
    )
    return styled(chart)


def _cells(values: Sequence[Sequence[float]], limit: float, text: str) -> Any:
    """One data row per table row, flattened by Vega when drawn: a tenth of the size of one data row per cell."""
    rows = [{"row": index, "value": [round(value, 4) for value in row]} for index, row in enumerate(values)]
    return (
        alt.Chart(alt.Data(values=rows))
        .transform_flatten(["value"])
        .transform_window(place="row_number()", groupby=["row"])
        .transform_calculate(
            left="datum.place - 1",
            right="datum.place",
            top="datum.row",
            bottom="datum.row + 1",
            size=f"abs(datum.value) / {limit}",
            sign="datum.value < 0 ? 'below 0' : 'above 0'",
            text=text,
        )
    )


def _axis(numbers: Sequence[int], domain: list[int], most: int, label: str) -> dict[str, Any]:
    places = _labelled(numbers, most)
    return {
        "scale": alt.Scale(domain=domain, nice=False),
        # Vega drops every other given tick until there are at most tickCount.
        "axis": alt.Axis(grid=False, labelOverlap=False, values=places, tickCount=len(places), labelExpr=label),
    }


def _sign_colours(limit: float) -> Any:
    """One colour per sign; the legend states the value of full strength."""
    sizes = f"datum.label + (datum.label == 'below 0' ? ', full at −{limit:.3g}' : ', full at {limit:.3g}')"
    return alt.Color(
        "sign:N",
        scale=alt.Scale(domain=["below 0", "above 0"], range=[LIGHT.baseline, LIGHT.prompted]),
        legend=alt.Legend(symbolType="square", labelExpr=sizes),
    )


def _labelled(numbers: Sequence[int], most: int) -> list[float]:
    """Centres of the cells that get a label: those with round numbers, about `most` at most."""
    steps = (digit * 10**power for power in range(6) for digit in (1, 2, 5))
    step = next(step for step in steps if len(numbers) / step <= most)
    return [place + 0.5 for place, number in enumerate(numbers) if number % step == 0]
