"""The parts of an inspection, from which the page is rendered: sections with pictures and tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Picture:
    """One chart.

    Attributes:
        name: Name of its file, without suffix.
        title: What it shows.
        caption: How to read it.
        chart: The Altair chart. A notebook displays it; `figures.save` writes it to a file.
    """

    name: str
    title: str
    caption: str
    chart: Any


@dataclass(frozen=True, slots=True)
class Table:
    """A small table; `numbers` are the indices of right-aligned columns."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    numbers: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Section:
    """One stage of the path through the model.

    Attributes:
        id: Anchor of the section.
        title: Heading.
        lead: Explains the stage; blank lines separate paragraphs.
        pictures: Charts, side by side where they fit.
        tables: Tables, shown before the charts.
    """

    id: str
    title: str
    lead: str
    pictures: Sequence[Picture] = ()
    tables: Sequence[Table] = ()
