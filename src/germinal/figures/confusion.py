"""Confusion matrix: targets in rows, answers in columns, each cell with its count and its share of the row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt

from germinal.figures.theme import LIGHT, styled

NO_ANSWER = "no answer"


def confusion(pairs: Sequence[tuple[str, str | None]], *, labels: Sequence[str], cell: int = 92) -> Any:
    """The matrix of (target, answer) pairs; if there are answers of None, they have a separate column."""
    columns = [*labels, *([NO_ANSWER] if any(answer is None for _, answer in pairs) else [])]
    counts = {(target, column): 0 for target in labels for column in columns}
    for target, answer in pairs:
        counts[target, NO_ANSWER if answer is None else answer] += 1
    totals = {target: sum(counts[target, column] for column in columns) for target in labels}
    rows = [
        {
            "target": target,
            "answer": column,
            "share": (share := count / totals[target] if totals[target] else 0.0),
            "right": target == column,
            "count": f"{count:,}",
            "percent": f"{share:.0%}",
            "text": f"{count} of {totals[target]} {target} {_answer_phrase(column)} ({share:.0%})",
        }
        for (target, column), count in counts.items()
    ]
    room = cell / 7  # characters of a label that fit above a column
    angle = 0 if max(map(len, columns)) <= room else -45
    base = alt.Chart(alt.Data(values=rows)).encode(
        x=alt.X("answer:N", sort=columns, title="answer", axis=alt.Axis(orient="top", labelAngle=angle, grid=False)),
        y=alt.Y("target:N", sort=list(labels), title="target", axis=alt.Axis(grid=False)),
    )
    colour = alt.condition("datum.right", alt.value(LIGHT.good), alt.value(LIGHT.bad))
    square = base.mark_rect(stroke=LIGHT.grid, strokeWidth=1, cornerRadius=4).encode(
        color=colour,
        fillOpacity=alt.Opacity("share:Q", scale=alt.Scale(domain=[0, 1], range=[0.03, 0.95]), legend=None),
        description="text:N",
    )
    ink = alt.condition("datum.share > 0.62", alt.value(LIGHT.on_fill), alt.value(LIGHT.ink))
    count = base.mark_text(fontSize=min(19, cell // 4), fontWeight=600, dy=-7).encode(text="count:N", color=ink)
    percent = base.mark_text(fontSize=11, dy=13).encode(text="percent:N", color=ink)
    side = {"width": alt.Step(cell), "height": alt.Step(max(48, round(cell * 0.7)))}
    return styled(alt.layer(square, count, percent).properties(**side))


def _answer_phrase(column: str) -> str:
    return "have no answer" if column == NO_ANSWER else f"answered {column}"
