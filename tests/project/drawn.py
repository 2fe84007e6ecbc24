"""What a terminal would show."""

from __future__ import annotations

from io import StringIO

from rich.console import Console, RenderableType


def plain(renderable: RenderableType, width: int = 100) -> str:
    """The text on a terminal of `width` columns without colours."""
    buffer = StringIO()
    console = Console(file=buffer, width=width, force_terminal=False, color_system=None, highlight=False, markup=False)
    console.print(renderable)
    return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines()) + "\n"
