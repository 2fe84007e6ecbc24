"""The progress of long work: bars on a terminal, elsewhere a line every few seconds, both with the time left."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from germinal.progress import Progress, Reporter, silent

if TYPE_CHECKING:
    from rich import progress as bars

_SECONDS_BETWEEN_LINES = 5.0
_WIDEST_TASK = 56

Clock = Callable[[], float]


@contextmanager
def reporter(*, quiet: bool = False) -> Iterator[Reporter]:
    """A reporter for a `with` block, which writes to standard error; a quiet one shows nothing."""
    if quiet:
        yield silent
        return
    from germinal.cli.views.console import stderr

    if not stderr.is_terminal:
        yield PlainReporter(lambda line: stderr.print(line, soft_wrap=True))
        return
    with _drawn_bars() as drawn:
        yield BarReporter(drawn)


class Pace:
    """The time that tasks have left, by their pace since their first report: a resumed task starts midway."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._first: dict[str, tuple[float, float]] = {}

    def left(self, progress: Progress) -> float | None:
        """Seconds, or None while they are not known."""
        now = self._clock()
        started, first = self._first.setdefault(progress.task, (now, progress.done))
        if progress.total is None or progress.done <= first:
            return None
        return (now - started) / (progress.done - first) * (progress.total - progress.done)

    def forget(self, task: str) -> float:
        """A task is over. Returns the seconds since its first report."""
        return self._clock() - self._first.pop(task)[0]


class PlainReporter:
    """Writes one line every few seconds, and the last report of every task that took that long."""

    def __init__(self, write: Callable[[str], None], clock: Clock = time.monotonic) -> None:
        self._write = write
        self._clock = clock
        self._pace = Pace(clock)
        self._written = float("-inf")

    def __call__(self, progress: Progress) -> None:
        left = self._pace.left(progress)
        finished = progress.total is not None and progress.done >= progress.total
        # A task that ends before a line is due gets none: cached work would fill the screen.
        long = finished and self._pace.forget(progress.task) >= _SECONDS_BETWEEN_LINES
        if self._clock() - self._written < _SECONDS_BETWEEN_LINES and not long:
            return
        self._written = self._clock()
        parts = [progress.task, _amount(progress)]
        if left:
            parts.append(f"{_duration(left)} left")
        if progress.note:
            parts.append(progress.note)
        self._write("  ".join(parts))


class BarReporter:
    """One bar for each task under way; a finished one makes room for the next."""

    def __init__(self, drawn: bars.Progress) -> None:
        self._drawn = drawn
        self._pace = Pace(drawn.get_time)
        self._ids: dict[str, bars.TaskID] = {}

    def __call__(self, progress: Progress) -> None:
        left = self._pace.left(progress)
        ends = None if left is None else self._drawn.get_time() + left
        shown: dict[str, Any] = {"amount": _amount(progress), "note": progress.note, "ends": ends}
        if progress.task not in self._ids:
            self._ids[progress.task] = self._drawn.add_task(_shortened(progress.task), total=progress.total, **shown)
        self._drawn.update(self._ids[progress.task], completed=progress.done, total=progress.total, **shown)
        if progress.total is not None and progress.done >= progress.total:
            self._pace.forget(progress.task)
            self._drawn.remove_task(self._ids.pop(progress.task))


@contextmanager
def _drawn_bars() -> Iterator[bars.Progress]:
    from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
    from rich.text import Text

    from germinal.cli.views.console import stderr

    class TimeLeft(ProgressColumn):
        """Counts down to the end, as it was last estimated."""

        max_refresh = 0.5

        def render(self, task: Task) -> Text:
            ends = task.fields["ends"]
            shown = "" if ends is None else f"{_duration(max(0.0, ends - task.get_time()))} left"
            return Text(shown, style="progress.remaining")

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[amount]}", markup=False),
        TimeLeft(),
        TextColumn("{task.fields[note]}", style="dim", markup=False),
    )
    with Progress(*columns, console=stderr, transient=True) as drawn:
        yield drawn


def _amount(progress: Progress) -> str:
    if progress.unit == "bytes":
        total = f"/{progress.total / 1e6:.0f}" if progress.total is not None else ""
        return f"{progress.done / 1e6:.0f}{total} MB"
    total = f"/{progress.total:g}" if progress.total is not None else ""
    return f"{progress.done:g}{total} {progress.unit}"


def _shortened(text: str) -> str:
    return text if len(text) <= _WIDEST_TASK else f"{text[: _WIDEST_TASK - 1]}…"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
