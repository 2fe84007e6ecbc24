"""One run of a project at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from germinal.errors import ProjectBusyError


@contextmanager
def project_lock(state: Path) -> Iterator[None]:
    """Keep other processes from running the project. The system frees the lock when its holder dies, however it dies.

    Raises:
        ProjectBusyError: another process holds it.
    """
    lock = FileLock(state / "lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise ProjectBusyError(
            "another process is running this project.", where=str(state), hint="Wait for it, or stop it."
        ) from error
    try:
        yield
    finally:
        lock.release()
