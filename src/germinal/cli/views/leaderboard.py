"""The leaderboard on a terminal: readable at 100 columns, colour only for what the text says too."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.console import Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from germinal.cli.views.tables import table
from germinal.project.board import formats, sentences, unanswered

if TYPE_CHECKING:
    from rich.console import RenderableType

    from germinal.ledger import ComparisonRecord, Figure, MetricRecord
    from germinal.project.board.leaderboard import Leaderboard, Row

WINNER, TIED = "★", "≈"
_VERDICT_STYLES = {"reached": "bold green", "not shown": "bold yellow", "missed": "bold red"}
_LONGEST_OPPONENT = 10
_INTERVALS_SHOWN = 2  # metrics; more than these would not fit 100 columns with their intervals


def render(board: Leaderboard) -> RenderableType:
    """The whole leaderboard."""
    return Group(*(part for _, part in parts(board)))


def parts(board: Leaderboard) -> Iterator[tuple[str, RenderableType]]:
    """The parts by name, from top to bottom: the use case, quality on dev, cost, the winner on test, the conclusion."""
    yield "use case", Text(board.use_case, style="bold")
    yield "quality", Group(_heading("Quality on dev", board, "dev"), _quality(board), _legend(board))
    yield "cost", Group(_heading("What it took to answer dev"), _costs(board), _cost_legend(board))
    if board.tested:
        yield "test", Group(_heading("The winner and the baselines on test", board, "test"), _tested(board))
    yield "conclusion", _conclusion(board)


def _heading(title: str, board: Leaderboard | None = None, split: str = "") -> RenderableType:
    text = Text(title, style="bold")
    if board is not None and split in board.splits:
        text.append(f"  {formats.examples(board.splits[split])}", style="dim")
    return Padding(text, (1, 0, 0, 0), expand=False)


def _quality(board: Leaderboard) -> Table:
    roles = [role for role in ("baseline", "zero-shot") if any(row.against(role) for row in board.rows)]
    heads = ["", "candidate", *_metric_heads(board), *(_opponent(board, role) for role in roles)]
    rows = [
        [_mark(row), row.label, *_metric_cells(board, row.dev), *(_paired(row.against(role)) for role in roles)]
        for row in board.rows
    ]
    return table(heads, rows, right=heads[2:], styles=[_style(row) for row in board.rows])


def _mark(row: Row) -> str:
    return WINNER if row.winner else TIED if row.tied else ""


def _style(row: Row) -> str:
    return "bold" if row.winner else "dim" if row.kind == "baseline" else ""


def _opponent(board: Leaderboard, role: str) -> str:
    """The head of a column of comparisons: the opponent's name, if it is short and the same in every row."""
    opponents = {comparison.second for row in board.rows if (comparison := row.against(role))}
    name = board.row(opponents.pop()).label if role == "baseline" and len(opponents) == 1 else role
    return f"vs {name if len(name) <= _LONGEST_OPPONENT else role}"


def _metric_heads(board: Leaderboard) -> list[str]:
    return [f"{metric.name} 95%" if _with_interval(board, metric) else metric.name for metric in board.metrics]


def _with_interval(board: Leaderboard, metric: MetricRecord) -> bool:
    return metric is board.metrics[0] or len(board.metrics) <= _INTERVALS_SHOWN


def _metric_cells(board: Leaderboard, figures: dict[str, Figure]) -> list[str]:
    cells = []
    for metric in board.metrics:
        figure = figures.get(metric.name)
        text = "–" if figure is None else formats.value(figure.value, formats.digits(metric.name))
        if figure is not None and _with_interval(board, metric) and figure.low is not None:
            text += f" {formats.interval(figure, min(2, formats.digits(metric.name)))}"
        cells.append(text)
    return cells


def _paired(comparison: ComparisonRecord | None) -> str:
    if comparison is None:
        return ""
    difference = formats.difference(comparison.difference, formats.digits(comparison.metric))
    return f"{difference} {formats.p_value(comparison.p):>5}"


def _legend(board: Leaderboard) -> RenderableType:
    notes = [f"{WINNER} winner"]
    if sum(row.tied for row in board.rows) > 1:
        notes.append(f"{TIED} cannot be told apart from the best")
    if any(row.comparisons for row in board.rows):
        notes.append("vs: paired difference and p, Holm-corrected")
    weights = sentences.weights(board)
    return Text("   ".join(notes) + (f"\n{weights}" if weights else ""), style="dim")


def _cost_legend(board: Leaderboard) -> RenderableType:
    notes = ["×: measured / estimated"]
    if board.answers == "labels":
        notes.append("rules on the same prompts share the time of one pass over them")
    if _has_lost(board):
        notes.append("lost: cannot count")
    return Text("   ".join(notes), style="dim")


def _has_lost(board: Leaderboard) -> bool:
    """Whether a column of lost answers says something: labels that are scored are seldom lost."""
    counts = [row.counts for row in board.rows if row.counts is not None]
    return any(each.lost for each in counts) or (board.answers == "text" and bool(counts))


def _costs(board: Leaderboard) -> Table:
    spread = any(row.spread for row in board.rows)
    heads = ["candidate", *(["over shot seeds"] if spread else []), "tokens"]
    if lost := _has_lost(board):
        heads.append("lost")
    heads += ["time", "×", "peak memory", "×"]
    rows = []
    for row in board.rows:
        timing = board.timings[row.id]
        estimate = timing.estimate
        rows.append(
            [
                row.label,
                *([_spread(row, board.primary)] if spread else []),
                formats.count(row.tokens.total),
                *([unanswered.share(row.counts)] if lost else []),
                formats.duration(timing.seconds),
                _off(estimate.seconds_factor if estimate else None),
                formats.memory(timing.peak_memory_bytes),
                _off(estimate.memory_factor if estimate else None),
            ]
        )
    return table(heads, rows, right=heads[1:], styles=[_style(row) for row in board.rows])


def _off(factor: float | None) -> str:
    return formats.factor(factor).removeprefix("×")


def _spread(row: Row, metric: str) -> str:
    spread = row.spread.get(metric)
    if spread is None:
        return ""
    low, high = (formats.value(end, formats.digits(metric)) for end in (spread.low, spread.high))
    return f"{low}–{high} (n={spread.n})"


def _tested(board: Leaderboard) -> Table:
    rows = [[_mark(row), row.label, *_metric_cells(board, row.test)] for row in board.tested]
    heads = ["", "candidate", *_metric_heads(board)]
    return table(heads, rows, right=heads[2:], styles=[_style(row) for row in board.tested])


def _conclusion(board: Leaderboard) -> RenderableType:
    text = Text("\n")
    no_verdict = unanswered.no_verdict(board)
    if no_verdict:
        text.append(f"{no_verdict}\n", style="bold yellow")
    for sentence in () if no_verdict else (sentences.choice(board), sentences.against_baseline(board)):
        if sentence:
            text.append(f"{sentence}\n")
    for sentence in unanswered.lost(board):
        text.append(f"{sentence}\n", style="yellow")
    for record in board.success:
        text.append(f"{sentences.success(record, board)}\n", style=_VERDICT_STYLES[record.verdict])
    for limit in board.run.limits:
        text.append(f"{sentences.limit(limit)}\n", style="green" if limit.kept else "yellow")
    if detectable := sentences.detectable(board):
        text.append(f"{detectable} ", style="dim")
    if board.tested:
        text.append(sentences.looks(board), style="dim")
    for warning in board.run.warnings:
        text.append(f"\nNote: {warning}", style="yellow")
    return text
