"""The cache folder: its path, locks on its parts, and digests of files, which are computed once.

It is $GERMINAL_CACHE, or `germinal` in the platform's cache folder. Everything in it can be fetched or computed again.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from germinal import storage
from germinal.errors import StorageError
from germinal.progress import Progress, Reporter

_WAIT_S = 1.0


def cache_folder() -> Path:
    """The path of the cache folder, which may not exist yet."""
    if chosen := os.environ.get("GERMINAL_CACHE"):
        return Path(chosen).expanduser()
    if xdg := os.environ.get("XDG_CACHE_HOME"):
        return Path(xdg).expanduser() / "germinal"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "germinal" / "Cache"
    return Path.home() / ("Library/Caches" if sys.platform == "darwin" else ".cache") / "germinal"


def is_offline(asked: bool | None = None) -> bool:
    """Whether nothing may be fetched: as asked, or by default as $GERMINAL_OFFLINE or $HF_HUB_OFFLINE say."""
    if asked is not None:
        return asked
    return any(
        os.environ.get(name, "").strip().lower() in {"1", "true", "yes", "on"}
        for name in ("GERMINAL_OFFLINE", "HF_HUB_OFFLINE")
    )


@contextmanager
def lock(name: str, reporter: Reporter) -> Iterator[None]:
    """Hold a lock that other processes wait for, by its name; this process's waiting is reported.

    Raises:
        StorageError: the cache folder cannot be written.
    """
    from filelock import FileLock, Timeout

    path = cache_folder() / "locks" / f"{storage.digest(name)[:32]}.lock"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(
            f"the cache folder cannot be written: {error.strerror}.",
            where=str(path.parent),
            hint="Set GERMINAL_CACHE to a folder that can be written.",
        ) from error
    held = FileLock(path)
    waited = 0.0
    while True:
        try:
            held.acquire(timeout=_WAIT_S)
            break
        except Timeout:
            waited += _WAIT_S
            reporter(Progress(f"wait for another process that fetches {name}", waited, None, "seconds"))
    try:
        yield
    finally:
        held.release()


def remembered(purpose: str, files: Sequence[Path], details: object, compute: Callable[[], str]) -> str:
    """The result of `compute`, or of an earlier call for the same files: of the same paths, sizes and times of change.

    If the cache cannot be written, it is computed every time.
    """
    key = storage.digest([purpose, [_identity(file) for file in files], details])
    path = cache_folder() / "digests" / f"{key}.json"
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        return str(json.loads(path.read_text(encoding="utf-8"))["digest"])
    digest = compute()
    with contextlib.suppress(StorageError):
        storage.write_json(path, {"purpose": purpose, "files": [str(file) for file in files], "digest": digest})
    return digest


def remembered_digest(path: Path) -> str:
    """SHA-256 of a file, or of a folder's names and contents, computed again only when a file has changed."""
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        return remembered("sha256 of a folder", files, str(path), lambda: storage.folder_digest(path))
    return remembered("sha256", [path], None, lambda: storage.file_digest(path))


def _identity(file: Path) -> list[object]:
    stat = file.stat()
    return [str(file.resolve()), stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]
