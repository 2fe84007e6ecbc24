"""What a look inside a model consists of: sections with pictures and tables, before they are a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Picture:
    """One chart.

    Attributes:
        name: What its file is called.
        title: What it shows.
        caption: How to read it.
        chart: The Altair chart: a notebook shows it, `figures.save` makes a file of it.
    """

    name: str
    title: str
    caption: str
    chart: Any


@dataclass(frozen=True, slots=True)
class Table:
    """A small table; `numbers` are the columns that stand to the right."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    numbers: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Section:
    """One part of the way through the model.

    Attributes:
        id: Where links lead.
        title: Its heading.
        lead: What happens there.
        pictures: Its charts; neighbours that fit stand side by side.
        tables: Its tables.
    """

    id: str
    title: str
    lead: str
    pictures: Sequence[Picture] = ()
    tables: Sequence[Table] = ()
