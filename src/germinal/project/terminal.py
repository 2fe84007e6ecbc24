"""What the leaderboard and the comparison share when they are drawn on a terminal."""

from __future__ import annotations

from io import StringIO
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table


def table(*columns: str, left: int = 1) -> Table:
    """A table with a rule under its head and no other lines; the first `left` columns hold text, the others figures."""
    from rich import box
    from rich.table import Table

    drawn = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1), header_style="bold")
    for index, column in enumerate(columns):
        justify = "left" if index < left else "right"
        overflow = "ellipsis" if index < left else "fold"
        drawn.add_column(column, justify=justify, no_wrap=True, overflow=overflow)  # type: ignore[arg-type]
    return drawn


def plain(renderable: RenderableType, width: int) -> str:
    """What a terminal of `width` columns without colours would show."""
    from rich.console import Console

    buffer = StringIO()
    console = Console(file=buffer, width=width, force_terminal=False, color_system=None, highlight=False, markup=False)
    console.print(renderable)
    return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines()) + "\n"
