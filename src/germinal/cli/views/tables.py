"""Tables and amounts, written the same way by every command."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    right: Sequence[str] = (),
    styles: Sequence[str] = (),
) -> Table:
    """A table with a rule under its head and no other lines.

    Args:
        columns: The heads.
        rows: A cell for each column.
        right: Heads of the columns that hold figures, which are never broken or cut. Where the page is narrow text is
            folded, that of the first column last, as it names the row.
        styles: Of each row, as rich names them; rows without one are plain.
    """
    from rich.box import SIMPLE_HEAD
    from rich.cells import cell_len
    from rich.table import Table

    cells = list(rows)
    drawn = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="bold")
    texts = [head for head in columns if head not in right]
    for place, head in enumerate(columns):
        if head in right:
            width = max(cell_len(text) for text in (head, *(row[place] for row in cells)))
            drawn.add_column(head, justify="right", no_wrap=True, min_width=width)
        else:
            drawn.add_column(head, overflow="fold", no_wrap=place == 0 and len(texts) > 1)
    for row, style in zip_longest(cells, styles, fillvalue=""):
        drawn.add_row(*row, style=str(style))
    return drawn


def megabytes(count: float | None) -> str:
    """Bytes as MB or GB in powers of ten, as disks and model cards count them."""
    if count is None:
        return ""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def millions(count: float | None) -> str:
    """A number of parameters as a model card writes it."""
    if count is None:
        return ""
    if count >= 1e9:
        return f"{count / 1e9:.3g} B"
    return f"{count / 1e6:.3g} M" if count >= 1e6 else f"{count:,.0f}"


def duration(seconds: float | None) -> str:
    """Seconds as a person says them."""
    if seconds is None:
        return ""
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
