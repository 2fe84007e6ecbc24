"""Progress events of long work. The work reports them; its caller decides how to show them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Progress:
    """A progress event of one task.

    Attributes:
        task: What is being done, in words a user knows ("tune smollm2", "download weights").
        done: Units finished.
        total: Units in all, or None if unknown.
        unit: What is counted ("examples", "steps", "bytes", "trials").
        note: A figure worth showing beside the bar ("loss 0.41").
    """

    task: str
    done: float
    total: float | None
    unit: str
    note: str = ""


Reporter = Callable[[Progress], None]


def silent(progress: Progress) -> None:
    """The reporter that shows nothing."""
