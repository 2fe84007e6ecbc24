"""What a split keeps together, and what counts as one in statistics: rows of one source, and near-duplicates.

Two rows belong together if they are of one group, or if their inputs or the names of their groups differ only in case,
blanks, Unicode form or unseen characters (`germinal.data.normal_forms.folded`); and so do two rows that both belong to
a third. Rows of different groups are one unit as soon as one row of each is nearly the same.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from germinal.data.normal_forms import folded
from germinal.storage import digest


def units_of(inputs: Sequence[str], groups: Sequence[str | None]) -> list[str]:
    """The unit of each row, as a hash of content.

    A unit of several groups, or of several spellings, has the least of their hashes: where nothing has to be joined, no
    unit depends on the rest of the data.
    """
    own = [_alone(text, group) for text, group in zip(inputs, groups, strict=True)]
    parent = {unit: unit for unit in own}

    def root(unit: str) -> str:
        while parent[unit] != unit:
            parent[unit] = unit = parent[parent[unit]]
        return unit

    first: dict[tuple[str, str], str] = {}
    for unit, text, group in zip(own, inputs, groups, strict=True):
        for form in (("input", folded(text)), *([("group", folded(group))] if group is not None else [])):
            low, high = sorted((root(unit), root(first.setdefault(form, unit))))
            parent[high] = low
    return [root(unit) for unit in own]


def clusters_of(inputs: Sequence[str], groups: Sequence[str | None]) -> tuple[str, ...] | None:
    """The unit of each row as statistics want it: None if every row is one by itself."""
    units = units_of(inputs, groups)
    return tuple(units) if len(set(units)) < len(units) else None


def _alone(text: str, group: str | None) -> str:
    """The unit that a row would have by itself. Splits of existing data rest on it: it must never change."""
    if group is not None:
        return digest(("group", group))
    plain = unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n")).strip()
    return digest(("input", " ".join(unicodedata.normalize("NFKC", plain).casefold().split())))
