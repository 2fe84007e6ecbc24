"""Label placement: of eight positions around a point, the one where the label overlaps least with everything else."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import chain, pairwise

Point = tuple[float, float]
Box = tuple[float, float, float, float]

_HEIGHT = 13.0
_ADVANCE = 6.1  # mean width of a character at 11 px in the fonts of theme.FONT
_WEIGHT = 4  # of points and labels, which must stay readable, relative to lines
_GAP = 9.0


def place(
    named: Sequence[tuple[Point, str]],
    points: Sequence[Point],
    lines: Sequence[Sequence[Point]],
    width: float,
    height: float,
) -> list[Point]:
    """Left edge and vertical centre of each label, in pixels.

    Args:
        named: Points and labels, placed in this order.
        points: All points of the chart, which labels should not cover.
        lines: The corners of lines, which labels should not cover either.
        width: Width of the plotting area; labels stay within it if possible.
        height: Height of the plotting area.
    """
    taken: list[Box] = [(x - 6, y - 6, x + 6, y + 6) for x, y in points for _ in range(_WEIGHT)]
    taken += [(x - 1, y - 1, x + 1, y + 1) for line in lines for x, y in _along(line)]
    places = []
    for point, name in named:
        length = len(name) * _ADVANCE
        options = list(_options(point, length))
        inside = [box for box in options if box[0] >= 0 and box[2] <= width + 12 and box[1] >= -4 and box[3] <= height]
        best = min(inside or options, key=lambda box: _covered(box, taken))
        taken += [best] * _WEIGHT
        places.append((best[0], (best[1] + best[3]) / 2))
    return places


def _options(point: Point, length: float) -> Iterator[Box]:
    x, y = point
    corners = ((x + 5, y - 14), (x + 5, y + 14), (x - length - 5, y - 14), (x - length - 5, y + 14))
    sides = ((x + _GAP, y), (x - _GAP - length, y))
    above_and_below = ((x - length / 2, y - 16), (x - length / 2, y + 16))
    for left, middle in chain(corners, sides, above_and_below):
        yield (left, middle - _HEIGHT / 2, left + length, middle + _HEIGHT / 2)


def _along(line: Sequence[Point]) -> Iterator[Point]:
    """A line as points three pixels apart."""
    for (x, y), (to_x, to_y) in pairwise(line):
        steps = max(1, round(math.dist((x, y), (to_x, to_y)) / 3))
        for step in range(steps + 1):
            yield x + (to_x - x) * step / steps, y + (to_y - y) * step / steps


def _covered(box: Box, taken: Sequence[Box]) -> float:
    """The area of `box` that is already taken."""
    return sum(
        max(0.0, min(box[2], other[2]) - max(box[0], other[0]))
        * max(0.0, min(box[3], other[3]) - max(box[1], other[1]))
        for other in taken
    )
