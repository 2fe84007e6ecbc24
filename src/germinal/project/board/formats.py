"""Figures as text, the same on the terminal and in the report: values, intervals, p-values, sizes, durations."""

from __future__ import annotations

from collections.abc import Mapping

from germinal.evaluation.metrics import METRICS
from germinal.ledger import Figure, SplitRecord


def digits(metric: str) -> int:
    """Decimal places of a metric's values: one on a scale from 0 to 100, else three."""
    found = METRICS.get(metric)
    return 1 if found is not None and found.bounds[1] == 100 else 3


def value(number: float | None, digits: int = 3) -> str:
    """A metric's value."""
    return "–" if number is None else f"{number:.{digits}f}"


def interval(figure: Figure, digits: int = 3) -> str:
    """The interval of a figure, "0.812–0.889", or a dash where none was computed."""
    if figure.low is None or figure.high is None:
        return "–"
    dash = "–" if figure.low >= 0 else " to "
    return f"{figure.low:.{digits}f}{dash}{figure.high:.{digits}f}"


def examples(split: SplitRecord) -> str:
    """How many examples a split has, and of how many groups where fewer: "60 examples in 4 groups"."""
    grouped = split.units is not None and split.units < split.rows
    groups = f" in {split.units:,} group{'s' if split.units != 1 else ''}" if grouped else ""
    return f"{split.rows:,} examples{groups}"


def p_value(p: float | None) -> str:
    """A p-value as journals print it: "<.001", ".024", "1"."""
    if p is None:
        return "–"
    if p < 0.001:
        return "<.001"
    return "1" if p > 0.9995 else f"{p:.3f}".removeprefix("0")


def p_stated(p: float) -> str:
    """A p-value inside a sentence: "p<.001", "p=.024"."""
    written = p_value(p)
    return f"p{written}" if written.startswith("<") else f"p={written}"


def difference(number: float, digits: int = 3) -> str:
    """A difference with its sign."""
    return f"{number:+.{digits}f}".replace("-", "−")


def count(number: float) -> str:
    """1234567 as "1.23M"; small numbers whole."""
    for size, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            scaled = number / size
            return f"{scaled:.0f}{unit}" if scaled >= 100 else f"{scaled:.3g}{unit}"
    return f"{number:.0f}" if number >= 10 or number == int(number) else f"{number:.1f}"


def duration(seconds: float | None) -> str:
    """Seconds as "0.3 s", "41 s", "3:07 min" or "1:12:30 h"."""
    if seconds is None:
        return "–"
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d} h" if hours else f"{minutes}:{rest:02d} min"


def memory(size: float | None) -> str:
    """Bytes as "812 MiB" or "3.4 GiB"."""
    if size is None:
        return "–"
    return f"{size / 2**20:.0f} MiB" if size < 2**30 else f"{size / 2**30:.2f} GiB"


def probabilities(of: Mapping[str, float]) -> str:
    """Labels with their probabilities, the most likely first."""
    return ", ".join(f"{label} {value:.3f}" for label, value in sorted(of.items(), key=lambda item: -item[1]))


def factor(times: float | None) -> str:
    """Measured over estimated, "×1.3"."""
    return "–" if times is None else f"×{times:.2f}" if times < 10 else f"×{times:.0f}"
