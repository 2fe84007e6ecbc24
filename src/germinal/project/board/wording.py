"""Figures in words, the same on the terminal and in the report: values, intervals, sizes, durations, verdicts."""

from __future__ import annotations

from collections.abc import Mapping

from germinal.evaluation.metrics import METRICS
from germinal.ledger import ComparisonRecord, Figure, LimitRecord, SuccessRecord
from germinal.project.board.leaderboard import Leaderboard

_LIMITS = {"memory_gb": ("peak memory", "GB"), "latency_ms": ("the time of one answer", "ms")}


def places(metric: str) -> int:
    """Digits that a metric is shown with: one of those from 0 to 100, three of all others."""
    found = METRICS.get(metric)
    return 1 if found is not None and found.bounds[1] == 100 else 3


def value(number: float | None, places: int = 3) -> str:
    """A metric's value."""
    return "–" if number is None else f"{number:.{places}f}"


def interval(figure: Figure, places: int = 3) -> str:
    """The interval of a figure, "0.812–0.889", or a dash where none was computed."""
    if figure.low is None or figure.high is None:
        return "–"
    dash = "–" if figure.low >= 0 else " to "
    return f"{figure.low:.{places}f}{dash}{figure.high:.{places}f}"


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


def difference(number: float, places: int = 3) -> str:
    """A difference with its sign."""
    return f"{number:+.{places}f}".replace("-", "−")


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
    """Labels with their probabilities, the likeliest first."""
    return ", ".join(f"{label} {value:.3f}" for label, value in sorted(of.items(), key=lambda item: -item[1]))


def factor(times: float | None) -> str:
    """Measured over estimated, "×1.3"."""
    return "–" if times is None else f"×{times:.2f}" if times < 10 else f"×{times:.0f}"


def adjusted(comparison: ComparisonRecord) -> float:
    """The p-value to read: corrected where the comparison was declared, raw where it is exploratory."""
    return comparison.p_value if comparison.p_adjusted is None else comparison.p_adjusted


def success(record: SuccessRecord, board: Leaderboard) -> str:
    """One sentence on one success criterion."""
    metric = next((metric for metric in board.metrics if metric.name == record.metric), board.metrics[0])
    wanted = f"{record.metric} of at {'least' if metric.higher_is_better else 'most'} {record.threshold:g} on test"
    if record.figure is None:
        return f"{record.verdict.capitalize()}: {wanted}."
    digits = places(record.metric)
    measured = f"measured {value(record.figure.value, digits)}, 95% interval {interval(record.figure, digits)}"
    return f"{record.verdict.capitalize()}: {wanted}; {measured}."


def against_baseline(board: Leaderboard) -> str | None:
    """Whether the winner is better than the best plain baseline, on dev."""
    winner = board.winner
    if winner is None:
        return None
    if winner.kind == "baseline":
        return f"No language model was shown to be better: the plain baseline {winner.label} is proposed."
    comparison = winner.against("baseline")
    if comparison is None:
        return None
    name = board.row(comparison.second).label
    ends, digits = "", places(comparison.metric)
    if comparison.low is not None and comparison.high is not None:
        ends = f", 95% interval {difference(comparison.low, digits)} to {difference(comparison.high, digits)}"
    measured = f"{difference(comparison.difference, digits)} {comparison.metric} on dev{ends}"
    figures = f"{measured}, {p_stated(adjusted(comparison))}"
    better = comparison.difference > 0 if board.metrics[0].higher_is_better else comparison.difference < 0
    if adjusted(comparison) >= 0.05:
        # Corrected with all that the plan compares; `choice` speaks of the comparisons with the best, corrected apart.
        return f"Not shown to differ from the best baseline, {name}, among all planned comparisons: {figures}."
    return f"{'Better' if better else 'Worse'} than the best baseline, {name}: {figures}."


def choice(board: Leaderboard) -> str | None:
    """How the winner was chosen among those that cannot be told apart."""
    if board.choice is None or board.winner is None:
        return None
    names = [row.label for row in board.rows if row.tied]
    if len(names) < 2:
        return f"{board.winner.label} is alone at the top: told apart from every other when all are compared with it."
    return f"{len(names)} candidates cannot be told apart from the best; of them {board.winner.label} takes least work."


def detectable(board: Leaderboard) -> str:
    """What difference dev can show; nothing where that is not known of the metric that decides."""
    what = "accuracy" if board.answers == "labels" else board.primary
    is_share = board.answers == "labels" or METRICS[what].is_proportion
    if board.detectable_difference is None and not is_share:
        return ""
    if board.detectable_difference is None:
        return f"Dev is too small to show a difference in {what} reliably."
    assumed = "" if is_share else ", if candidates differ by some 0.2 on single examples"
    return f"Dev can show differences in {what} of about {board.detectable_difference:.3f} and more{assumed}."


def cut(number: int, total: int) -> str:
    """How many texts ended because they grew too long."""
    return f"{number:,} of {total:,}" if number else "none"


def looks(board: Leaderboard) -> str:
    """How often the test split was looked at."""
    times = board.run.test_looks
    often = "once" if times == 1 else f"{times} times"
    caution = "" if times <= 1 else " Each look after the first makes its figures a little too good."
    return f"The test split was looked at {often}.{caution}"


def limit(found: LimitRecord) -> str:
    """One sentence on one limit of the scope."""
    what, unit = _LIMITS.get(found.name, (found.name, ""))
    allowed = f"the limit of {found.limit:g} {unit} for {what}"
    if found.measured is None:
        return f"Not known whether it keeps {allowed}."
    return f"{'Within' if found.kept else 'Over'} {allowed}: {found.measured:.3g} {unit} measured."
