"""Measuring in turn and telling what came of it.

Absolute figures move from run to run on a shared machine, so a goal is a ratio: both sides do the same work in the same
run, one after the other (A B A B), and their medians are compared.
"""

from __future__ import annotations

import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).parent.parent
WORK = ROOT / "build" / "bench"
MODEL = "smollm2-135m-instruct"
THREADS = 2
PACKAGES = (
    "germinal",
    "torch",
    "transformers",
    "peft",
    "sentence-transformers",
    "tokenizers",
    "numpy",
    "llama-cpp-python",
)


@dataclass(frozen=True)
class Row:
    """One line of the result table.

    Attributes:
        name: What was measured.
        unit: Of `ours` and `peer`.
        ours: Every measurement of ours.
        peer: Every measurement of the peer's; empty for a figure that has a fixed goal.
        peer_name: Who that is.
        higher_is_better: tok/s, or seconds and bytes.
        goal: For a row with a peer, the bound on the median ratio ours / peer; without one, the bound on ours.
        note: What a reader has to know ("same tokens").
    """

    name: str
    unit: str
    ours: Sequence[float]
    peer: Sequence[float] = ()
    peer_name: str = ""
    higher_is_better: bool = True
    goal: float | None = None
    note: str = ""

    @property
    def figure(self) -> float:
        """What the goal is about: the ratio, or our own median."""
        ours = statistics.median(self.ours)
        return ours / statistics.median(self.peer) if self.peer else ours

    @property
    def met(self) -> bool | None:
        """Whether the goal was met; None when there is none."""
        if self.goal is None:
            return None
        return self.figure >= self.goal if self.higher_is_better else self.figure <= self.goal


@dataclass(frozen=True)
class Setting:
    """What a benchmark is told.

    Attributes:
        rounds: How often each side is measured.
        quick: Less work a round, to see that everything runs; the figures mean little.
        only: Of the benchmarks that measure one thing on many models, those whose name has this in it.
    """

    rounds: int = 5
    quick: bool = False
    only: str = ""
    log: Callable[[str], None] = field(default=lambda line: print(line, file=sys.stderr, flush=True))

    def in_turn(self, *sides: Callable[[int], float], rounds: int | None = None) -> tuple[list[float], ...]:
        """Measure the sides one after the other, a round at a time; each gets the round's number.

        A side that has to warm up does so before this is called.
        """
        results: tuple[list[float], ...] = tuple([] for _ in sides)
        for number in range(1 if self.quick else rounds or self.rounds):
            # The side that goes first changes, so that neither always finds the caches warm.
            order = range(len(sides)) if number % 2 == 0 else reversed(range(len(sides)))
            for place in order:
                results[place].append(sides[place](number))
        return results


def timed(work: Callable[[], object]) -> float:
    """Seconds that a piece of work takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def model_folder() -> Path:
    """The Hugging Face folder, in float32, that both sides load: made once by our own `convert`."""
    folder = WORK / f"{MODEL}-float32"
    if not (folder / "config.json").exists():
        import germinal

        germinal.load(MODEL, precision="float32").save(folder)
    return folder


def reviews(count: int) -> list[tuple[str, str]]:
    """(text, label) of the first reviews of the example's data."""
    import csv

    with (ROOT / "examples" / "reviews" / "reviews.csv").open(encoding="utf-8", newline="") as file:
        rows = [(row["text"], row["label"]) for row in csv.DictReader(file)]
    return rows[:count]


def environment() -> dict[str, str]:
    """The machine and the versions that the figures belong to."""
    installed = {}
    for package in PACKAGES:
        try:
            installed[package] = version(package)
        except PackageNotFoundError:
            installed[package] = "not installed"
    machine = f"{_processor()}, {os.cpu_count()} cores, {THREADS} threads used, {_memory_gb():.0f} GB"
    return {"device": machine, "system": platform.platform(), "python": platform.python_version(), **installed}


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _memory_gb() -> float:
    import psutil

    return float(psutil.virtual_memory().total) / 1e9


def markdown(rows: Sequence[Row], facts: dict[str, str], date: str) -> str:
    """The text of RESULTS.md."""
    lines = [
        "# What was measured",
        "",
        "Made by `make bench`; do not edit. Medians, with the lowest and highest in brackets;",
    ]
    lines += ["both sides of a row did the same work in turn in one run.", "", f"Measured on {date}.", ""]
    lines += [f"- {name}: {value}" for name, value in facts.items()]
    lines += ["", "| what | ours | peer | ratio | goal | |", "|---|---|---|---|---|---|"]
    lines += [f"| {' | '.join(cells)} |" for cells in table(rows)]
    return "\n".join([*lines, ""])


def table(rows: Sequence[Row]) -> Iterator[tuple[str, ...]]:
    """The cells of each row: what, ours, peer, ratio, goal, met or missed."""
    for row in rows:
        sign = "≥" if row.higher_is_better else "≤"
        goal = "" if row.goal is None else f"{sign} {row.goal:g}" + ("" if row.peer else f" {row.unit}")
        verdict = {True: "met", False: "MISSED", None: ""}[row.met]
        peer = f"{row.peer_name}: {_spread(row.peer, row.unit)}" if row.peer else ""
        ratio = f"{row.figure:.2f}" if row.peer else ""
        what = row.name + (f" ({row.note})" if row.note else "")
        yield what, _spread(row.ours, row.unit), peer, ratio, goal, verdict


def _spread(values: Sequence[float], unit: str) -> str:
    middle = f"{statistics.median(values):.3g} {unit}"
    return middle if len(values) == 1 else f"{middle} ({min(values):.3g}-{max(values):.3g})"
