"""What the leaderboard and the comparison share when they are drawn on a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from io import StringIO
from itertools import zip_longest
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1, styles: Sequence[str] = ()) -> Table:
    """A table with a rule under its head and no other lines.

    The first `left` columns hold text, which is folded when the page is narrow; figures are never broken or cut.
    """
    from rich import box
    from rich.cells import cell_len
    from rich.table import Table

    drawn = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1), header_style="bold")
    for index, head in enumerate(heads):
        if index < left:
            drawn.add_column(head, overflow="fold")
        else:
            width = max(cell_len(text) for text in (head, *(row[index] for row in rows)))
            drawn.add_column(head, justify="right", no_wrap=True, min_width=width)
    for row, style in zip_longest(rows, styles, fillvalue=""):
        drawn.add_row(*row, style=str(style))
    return drawn


def plain(renderable: RenderableType, width: int = 100) -> str:
    """What a terminal of `width` columns without colours would show."""
    from rich.console import Console

    buffer = StringIO()
    console = Console(file=buffer, width=width, force_terminal=False, color_system=None, highlight=False, markup=False)
    console.print(renderable)
    return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines()) + "\n"
