"""Progress as a reader of a log file sees it."""

from __future__ import annotations

import io

import pytest

from germinal.cli.views import reporter
from germinal.cli.views.reporter import PlainReporter
from germinal.progress import Progress


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_lines_come_seconds_apart_and_the_last_one_always(clock: Clock) -> None:
    lines: list[str] = []
    report = PlainReporter(lines.append, clock)
    for done in range(101):
        clock.now = done / 10  # ten seconds in all
        report(Progress("predict", done, 100, "examples"))
    assert lines == ["predict  0/100 examples", "predict  50/100 examples  0:05 left", "predict  100/100 examples"]


def test_time_left_is_worked_out_from_where_a_resumed_task_began(clock: Clock) -> None:
    lines: list[str] = []
    report = PlainReporter(lines.append, clock)
    report(Progress("tune", 80, 100, "steps"))
    clock.now = 60
    report(Progress("tune", 90, 100, "steps", note="loss 0.41"))
    assert lines[-1] == "tune  90/100 steps  1:00 left  loss 0.41"


def test_tasks_that_are_over_at_once_do_not_fill_the_log(clock: Clock) -> None:
    lines: list[str] = []
    report = PlainReporter(lines.append, clock)
    for number in range(50):
        report(Progress(f"step {number}", 0, 1, "steps"))
        report(Progress(f"step {number}", 1, 1, "steps"))
    assert lines == ["step 0  0/1 steps"]


def test_an_unknown_total_and_bytes(clock: Clock) -> None:
    lines: list[str] = []
    report = PlainReporter(lines.append, clock)
    report(Progress("download weights", 12_500_000, 98_362_432, "bytes"))
    clock.now = 10
    report(Progress("count", 7, None, "rows"))
    assert lines == ["download weights  12/98 MB", "count  7 rows"]


def test_a_file_gets_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    from rich.console import Console

    from germinal.cli.views import console

    written = io.StringIO()
    monkeypatch.setattr(console, "stderr", Console(file=written, markup=False, highlight=False))
    with reporter.reporter() as report:
        report(Progress("predict [bold]", 1, 2, "examples"))
    assert written.getvalue() == "predict [bold]  1/2 examples\n"


def test_a_terminal_gets_bars_with_trials_examples_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    from rich.console import Console

    from germinal.cli.views import console

    written = io.StringIO()
    terminal = Console(file=written, markup=False, highlight=False, force_terminal=True, width=120)
    monkeypatch.setattr(console, "stderr", terminal)
    with reporter.reporter() as report:
        report(Progress("run", 20, 100, "examples", note="0/8 trials"))
        report(Progress("run", 30, 100, "examples", note="1/8 trials"))
        report(Progress("predict smollm2", 10, 300, "examples"))
        report(Progress("predict smollm2", 300, 300, "examples"))
        report(Progress("predict other", 1, 300, "examples", note="4-shot [b]"))
    shown = written.getvalue()
    assert "run" in shown
    assert "30/100 examples" in shown
    assert "4-shot [b]" in shown
    assert "0:00 left" in shown
    assert "1/300 examples" in shown
