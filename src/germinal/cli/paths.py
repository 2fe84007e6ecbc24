"""Where a command may write."""

from __future__ import annotations

from pathlib import Path

from germinal.errors import StorageError


def refuse_existing(path: Path, *, force: bool) -> None:
    """Refuse to replace what is there, unless `force` says so.

    Raises:
        StorageError: there is a file, or a folder that is not empty.
    """
    if force or not path.exists():
        return
    if path.is_dir() and not any(path.iterdir()):
        return
    raise StorageError("exists already.", where=str(path), hint="Name another place, or replace it with --force.")
