"""Words as points: their embeddings projected onto the plane of greatest variance, and the angles between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt

from germinal.figures.labels import place
from germinal.figures.theme import LIGHT, styled


@dataclass(frozen=True, slots=True)
class Word:
    """A word and its coordinates in the plane."""

    text: str
    x: float
    y: float


def word_plane(
    words: Sequence[Word], degrees: Sequence[Sequence[float]], *, explained: tuple[float, float], size: int = 400
) -> Any:
    """The words as points, each joined to the word at the smallest angle to it.

    Args:
        words: One point each.
        degrees: Angles between all pairs of words, [N, N], in degrees.
        explained: Share of the variance that each axis explains.
        size: Side of the plotting area, in pixels.
    """
    reach = 1.12 * max((max(abs(word.x), abs(word.y)) for word in words), default=1.0) or 1.0
    scale = alt.Scale(domain=[-reach, reach], nice=False)
    names = [f"principal component {axis}, {share:.0%} of the variance" for axis, share in enumerate(explained, 1)]

    def x(field: str) -> Any:
        return alt.X(f"{field}:Q", scale=scale, title=names[0], axis=alt.Axis(labels=False, tickCount=5))

    def y(field: str) -> Any:
        return alt.Y(f"{field}:Q", scale=scale, title=names[1], axis=alt.Axis(labels=False, tickCount=5))

    pairs = _nearest(words, degrees)
    line = (
        alt.Chart(alt.Data(values=pairs))
        .mark_rule(color=LIGHT.muted, strokeDash=[3, 3])
        .encode(
            x=x("x"),
            y=y("y"),
            x2="to_x:Q",
            y2="to_y:Q",
            tooltip=alt.Tooltip("text:N", title=None),
            description="text:N",
        )
    )
    points = alt.Chart(alt.Data(values=[{"word": word.text, "x": word.x, "y": word.y} for word in words]))
    dots = points.mark_circle(size=70, color=LIGHT.prompted, opacity=1).encode(
        x=x("x"), y=y("y"), tooltip=alt.Tooltip("word:N", title=None), description="word:N"
    )
    labels = (
        alt.Chart(alt.Data(values=_named(words, pairs, reach, size)))
        .mark_text(align="left", baseline="middle", fontSize=12)
        .encode(x=x("x"), y=y("y"), text="word:N")
    )
    return styled(alt.layer(line, dots, labels).properties(width=size, height=size))


def _nearest(words: Sequence[Word], degrees: Sequence[Sequence[float]]) -> list[dict[str, Any]]:
    """A line from each word to its nearest neighbour, each pair once."""
    pairs = set()
    for index in range(len(words)):
        others = [other for other in range(len(words)) if other != index]
        if others:
            near = min(others, key=lambda other: degrees[index][other])
            pairs.add((min(index, near), max(index, near)))
    return [
        {
            "x": words[one].x,
            "y": words[one].y,
            "to_x": words[other].x,
            "to_y": words[other].y,
            "text": f"{words[one].text} and {words[other].text}: {degrees[one][other]:.1f}°",
        }
        for one, other in sorted(pairs)
    ]


def _named(words: Sequence[Word], pairs: Sequence[dict[str, Any]], reach: float, size: int) -> list[dict[str, Any]]:
    """The words, placed where the labels do not overlap."""

    def pixels(x: float, y: float) -> tuple[float, float]:
        return (x + reach) / (2 * reach) * size, (reach - y) / (2 * reach) * size

    points = [pixels(word.x, word.y) for word in words]
    lines = [(pixels(pair["x"], pair["y"]), pixels(pair["to_x"], pair["to_y"])) for pair in pairs]
    named = list(zip(points, (word.text for word in words), strict=True))
    return [
        {"word": word.text, "x": left / size * 2 * reach - reach, "y": reach - middle / size * 2 * reach}
        for word, (left, middle) in zip(words, place(named, points, lines, size, size), strict=True)
    ]


def word_angles(words: Sequence[str], degrees: Sequence[Sequence[float]], *, size: int = 400) -> Any:
    """Angles between all pairs of words, in degrees: the smaller, the stronger the colour; from 90° there is none."""
    cell = max(20, min(48, size // max(1, len(words))))
    rows = [
        {
            "one": one,
            "other": other,
            "strength": max(0.0, 1 - degrees[i][j] / 90),
            "shown": "" if i == j else f"{degrees[i][j]:.0f}",
            "text": f"{one} and {other}: {degrees[i][j]:.1f}°",
        }
        for i, one in enumerate(words)
        for j, other in enumerate(words)
    ]
    order = list(words)
    base = alt.Chart(alt.Data(values=rows)).encode(
        x=alt.X("other:N", sort=order, title=None, axis=alt.Axis(orient="top", labelAngle=-45, grid=False)),
        y=alt.Y("one:N", sort=order, title=None, axis=alt.Axis(grid=False)),
    )
    square = base.mark_rect(color=LIGHT.prompted, stroke=LIGHT.grid, strokeWidth=1).encode(
        fillOpacity=alt.Opacity("strength:Q", scale=alt.Scale(domain=[0, 1], range=[0, 0.95]), legend=None),
        tooltip=alt.Tooltip("text:N", title=None),
        description="text:N",
    )
    ink = alt.condition("datum.strength > 0.7", alt.value(LIGHT.on_fill), alt.value(LIGHT.ink))
    number = base.mark_text(fontSize=11 if cell > 26 else 9).encode(text="shown:N", color=ink)
    return styled(alt.layer(square, number).properties(width=alt.Step(cell), height=alt.Step(cell)))
