"""How long work is shown: bars on a terminal, now and then a plain line elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from germinal.progress import Progress, Reporter, silent

_SECONDS_BETWEEN_LINES = 5.0


@contextmanager
def reporter(*, quiet: bool = False) -> Iterator[Reporter]:
    """A reporter for the length of a `with` block, writing to standard error; a quiet one shows nothing."""
    if quiet:
        yield silent
        return
    from germinal.cli.console import stderr

    if stderr.is_terminal:
        with _bars() as report:
            yield report
    else:
        yield PlainReporter(lambda line: stderr.print(line, soft_wrap=True))


@contextmanager
def _bars() -> Iterator[Reporter]:
    """One bar for each task under way; a finished one makes room for the next."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from germinal.cli.console import stderr

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[amount]}", markup=False),
        TimeRemainingColumn(elapsed_when_finished=True),
        TextColumn("{task.fields[note]}", style="dim", markup=False),
    )
    with Progress(*columns, console=stderr, transient=True) as bars:
        yield _BarReporter(bars)


class _BarReporter:
    def __init__(self, bars: object) -> None:
        from rich.progress import Progress, TaskID

        assert isinstance(bars, Progress)
        self._bars = bars
        self._ids: dict[str, TaskID] = {}

    def __call__(self, progress: Progress) -> None:
        amount = _amount(progress)
        if progress.task not in self._ids:
            self._ids[progress.task] = self._bars.add_task(
                _shortened(progress.task), total=progress.total, amount=amount, note=progress.note
            )
        bar = self._ids[progress.task]
        self._bars.update(bar, completed=progress.done, total=progress.total, amount=amount, note=progress.note)
        if progress.total is not None and progress.done >= progress.total:
            self._bars.remove_task(self._ids.pop(progress.task))


class PlainReporter:
    """Writes the first and the last report of each task, and between them one line every few seconds."""

    def __init__(self, write: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._write = write
        self._clock = clock
        self._started: dict[str, tuple[float, float]] = {}
        self._written = float("-inf")

    def __call__(self, progress: Progress) -> None:
        now = self._clock()
        known = progress.task in self._started
        started, first = self._started.setdefault(progress.task, (now, progress.done))
        finished = progress.total is not None and progress.done >= progress.total
        if finished:
            del self._started[progress.task]
        # Work that was over before a line was due needs none: what is cached would fill the screen.
        if now - self._written < _SECONDS_BETWEEN_LINES and not (finished and now - started >= _SECONDS_BETWEEN_LINES):
            return
        self._written = now
        parts = [_amount(progress)] if progress.task == progress.unit else [progress.task, _amount(progress)]
        if known and not finished and progress.total is not None and progress.done > first:
            left = (now - started) / (progress.done - first) * (progress.total - progress.done)
            parts.append(f"{_duration(left)} left")
        if progress.note:
            parts.append(progress.note)
        self._write("  ".join(parts))


def _amount(progress: Progress) -> str:
    if progress.unit == "bytes":
        total = f"/{progress.total / 1e6:.0f}" if progress.total is not None else ""
        return f"{progress.done / 1e6:.0f}{total} MB"
    total = f"/{progress.total:g}" if progress.total is not None else ""
    return f"{progress.done:g}{total} {progress.unit}"


def _shortened(text: str, width: int = 56) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
