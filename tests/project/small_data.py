"""Reviews made of a few words, whose label can be read off them; and a way to put rows into a file."""

from __future__ import annotations

import csv
import random
from collections.abc import Callable, Sequence
from pathlib import Path

Table = Sequence[dict[str, object]]


def reviews(rows: int = 200, **more: Callable[[int], object]) -> Table:
    """Rows with a text and a label; more columns by name, each a function of the row's number."""
    draw = random.Random(0)
    words = {"pos": ["warm", "funny", "true"], "neg": ["dull", "slow", "worse"]}
    made = []
    for index in range(rows):
        label = ("pos", "neg")[index % 2]
        text = " ".join(draw.choices([*words[label], "film", "plot", "cast", "scene"], k=8)) + f" take {index}"
        made.append({"text": text, "label": label, **{name: of(index) for name, of in more.items()}})
    return made


def write_csv(path: Path, rows: Table) -> Path:
    """Write rows to a csv file and return its path."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path
