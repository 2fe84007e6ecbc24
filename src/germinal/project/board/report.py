"""The report of a run: one HTML file that stands alone, made from the ledger alone.

It has what a reader needs to believe the verdict, or not to: figures with their intervals, tests, every example with
its answers, the prompts exactly as the model saw them, and how it was all computed. The page loads nothing: its charts
are inline SVG, its styles and its small script are inside. Text that comes from data or models is escaped everywhere.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from germinal import figures
from germinal.errors import LedgerError
from germinal.evaluation.metrics import METRICS
from germinal.ledger import Ledger, RunRecord
from germinal.project.board import formats, sentences, unanswered
from germinal.project.board.leaderboard import Leaderboard, leaderboard
from germinal.project.board.report_examples import ExampleTable, PromptGroup, example_table, prompt_groups, visible
from germinal.project.board.report_figures import Drawing, drawings
from germinal.storage import write_text


@dataclass(frozen=True, slots=True)
class Report:
    """What the page shows."""

    board: Leaderboard
    run: RunRecord
    drawings: dict[str, list[Drawing]]
    examples: list[ExampleTable]
    prompts: list[PromptGroup]


def write_report(ledger: Ledger, path: Path, run_id: int | None = None) -> Path:
    """Write the report of a run (the latest finished one by default) and return its path.

    Raises:
        LedgerError: there is no such run.
        StorageError: the file cannot be written; an older report stays as it was.
    """
    write_text(path, report_html(ledger, run_id))
    return path


def report_html(ledger: Ledger, run_id: int | None = None) -> str:
    """The report as one HTML page."""
    return render(collect(ledger, run_id))


def collect(ledger: Ledger, run_id: int | None = None) -> Report:
    """Read from the ledger what the page shows."""
    board = leaderboard(ledger, run_id)
    if not board.rows:
        raise LedgerError(f"run {board.run.id} has no trials to report on.")
    results = ledger.results(run_id=board.run.id)
    return Report(
        board=board,
        run=results.run,
        drawings=drawings(board, results, ledger),
        examples=[table for split in ("dev", "test") if (table := example_table(board, results, ledger, split))],
        prompts=prompt_groups(board, results, ledger),
    )


def render(report: Report) -> str:
    """The page as HTML."""
    environment = figures.page_templates(Path(__file__).parent)
    environment.filters.update(
        value=formats.value,
        interval=formats.interval,
        p=formats.p_value,
        difference=formats.difference,
        count=formats.count,
        duration=formats.duration,
        memory=formats.memory,
        factor=formats.factor,
        visible=visible,
        pretty=_pretty,
    )
    page = environment.get_template("report.html.jinja")
    return page.render(
        board=report.board,
        run=report.run,
        drawings=report.drawings,
        examples=report.examples,
        prompts=report.prompts,
        formats=formats,
        sentences=sentences,
        unanswered=unanswered,
        metrics={metric.name: METRICS[metric.name] for metric in report.board.metrics if metric.name in METRICS},
        theme=figures.page_css(),
    )


def _pretty(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, default=str)
