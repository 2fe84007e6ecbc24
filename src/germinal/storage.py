"""Atomic writes and content digests: a half-written file never has its final name; equal content has equal digests."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from germinal.errors import StorageError

_CHUNK = 1 << 20


def _storage_error(error: OSError, path: Path) -> StorageError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageError(
            "the disk is full; nothing was replaced.", where=str(path), hint="Free some space and run again."
        )
    return StorageError(f"cannot be written: {error.strerror or error}.", where=str(path))


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`. It is flushed to disk and renamed to `path` on success, removed on failure.

    Raises:
        StorageError: the disk is full or the folder cannot be written.
    """
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        os.close(handle)
        temporary = Path(name)
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise _storage_error(error, path) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path`. It replaces `path` as a whole on success and is removed on failure.

    Raises:
        StorageError: the disk is full or the parent folder cannot be written.
    """
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp"))
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                with file.open("rb+") as handle:
                    os.fsync(handle.fileno())
        temporary.chmod(0o755)
        if path.exists():
            replaced = temporary.with_suffix(".old")
            path.rename(replaced)
            temporary.rename(path)
            shutil.rmtree(replaced)
        else:
            temporary.rename(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise _storage_error(error, path) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def _sync_folder(folder: Path) -> None:
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically, in UTF-8."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file atomically, indented, with its keys in the order given."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def folder_digest(folder: Path) -> str:
    """SHA-256 over the relative names and contents of a folder's files, in hex."""
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return digest({file.relative_to(folder).as_posix(): file_digest(file) for file in files})


def canonical(value: Any) -> str:
    """Canonical, type-tagged JSON: equal values give equal text; 1, 1.0, True and "1" give four different texts."""
    return json.dumps(_tagged(value), separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def digest(value: Any) -> str:
    """SHA-256 of `canonical(value)`, in hex."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def _tagged(value: Any) -> Any:
    match value:
        case None:
            return None
        case bool():
            return ["b", value]
        case int():
            return ["i", str(value)]
        case float():
            return ["f", value.hex()]
        case str():
            return ["s", value]
        case bytes():
            return ["y", value.hex()]
        case Path():
            return ["p", value.as_posix()]
        case list() | tuple():
            return ["l", [_tagged(item) for item in value]]
        case Mapping():
            return ["m", [[_tagged(key), _tagged(value[key])] for key in sorted(value, key=_sort_key)]]
        case set() | frozenset():
            return ["t", sorted(canonical(item) for item in value)]
    raise TypeError(f"no canonical form for {type(value).__name__}")


def _sort_key(key: Any) -> str:
    return f"{type(key).__name__}:{key}"
