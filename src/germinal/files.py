"""Reads files that somebody else wrote: regular files only, of bounded size, and JSON of bounded depth.

A named pipe never ends, a device has no size, and a value nested ten thousand deep exhausts the stack of whatever walks
it later. Such files are refused here, so that readers need not think of them.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from germinal.errors import CheckpointError, GerminalError, UnsafeFileError

MAX_BYTES = 1 << 28
"""The largest file that is read as a whole; the longest published tokenizer.json takes an eighth of it."""

_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
"""How JSON spells the half of a character."""

MAX_DEPTH = 64
"""Published configs are nested six deep at most."""


def inside(folder: Path, name: str | Path) -> Path:
    """A path in a folder, by the name that somebody else's file gives.

    Raises:
        UnsafeFileError: it is absolute, goes up, or is a link that leads out of the folder.
    """
    path, shown = folder / name, str(name)[:100]
    try:
        leaves = ".." in Path(name).parts or not path.resolve().is_relative_to(folder.resolve())
        if leaves or Path(name).is_absolute():
            raise UnsafeFileError(f"the path '{shown}' leaves the folder.", where=str(folder))
        path.exists()
    except (OSError, RuntimeError, ValueError) as problem:  # too long, links in a circle, a null byte
        raise UnsafeFileError(f"the path '{shown}' cannot be a file's: {problem}.", where=str(folder)) from problem
    return path


def check_folder(folder: Path) -> None:
    """Refuse a folder in which, at any depth, a link leads out of it, or a pipe or a device stands for a file.

    Raises:
        UnsafeFileError: names it.
    """
    for path in folder.rglob("*"):
        if path.is_symlink():
            inside(folder, path.relative_to(folder))
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise UnsafeFileError("is not a regular file.", where=str(path))


def read_bytes(path: Path, *, error: type[GerminalError] = CheckpointError, most: int = MAX_BYTES) -> bytes:
    """The bytes of a regular file.

    Args:
        path: The file.
        error: The class of the error that is raised.
        most: The largest size that is read.

    Raises:
        GerminalError: as `error`; the file is missing, cannot be read, is a pipe or a device, or is too large.
    """
    with open_regular(path, error=error) as file:
        size = os.fstat(file.fileno()).st_size
        if size > most:
            raise error(f"has {size:,} bytes; at most {most:,} are read.", where=str(path))
        content = file.read(size + 1)
    if len(content) > size:
        raise error("grew while it was read.", where=str(path))
    return content


@contextmanager
def open_regular(path: Path, *, error: type[GerminalError] = CheckpointError) -> Iterator[BinaryIO]:
    """Open a regular file to read it; whatever the system refuses meanwhile is an `error` too.

    Raises:
        GerminalError: as `error`; the file is missing, cannot be read, or is a pipe or a device.
    """
    try:
        # Opening a pipe would wait for somebody to write into it.
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        with os.fdopen(handle, "rb") as file:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise error("is not a regular file.", where=str(path))
            yield file
    except (OSError, ValueError) as problem:  # ValueError: a path with a null byte
        reason = getattr(problem, "strerror", None) or problem
        raise error(f"cannot be read: {reason}.", where=str(path)) from problem


def read_text(path: Path, *, error: type[GerminalError] = CheckpointError, most: int = MAX_BYTES) -> str:
    """The text of a regular file in UTF-8; errors are those of `read_bytes`, and that of bytes that are not UTF-8."""
    return decode(read_bytes(path, error=error, most=most), where=str(path), error=error)


def decode(content: bytes, *, where: str, error: type[GerminalError] = CheckpointError) -> str:
    """Bytes as text.

    Raises:
        GerminalError: as `error`; they are not UTF-8.
    """
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as problem:
        raise error(f"is not UTF-8: byte {problem.start:,} is 0x{content[problem.start]:02x}.", where=where) from None


def read_json(path: Path, *, error: type[GerminalError] = CheckpointError) -> Any:
    """The JSON value in a file; errors are those of `read_text` and `parse_json`."""
    return parse_json(read_text(path, error=error), where=str(path), error=error)


def read_json_object(path: Path, *, error: type[GerminalError] = CheckpointError) -> dict[str, Any]:
    """The JSON object in a file; errors are those of `read_json`, and that of another kind of value."""
    value = read_json(path, error=error)
    if not isinstance(value, dict):
        raise error("must hold a JSON object.", where=str(path))
    return value


def parse_json(text: str, *, where: str, error: type[GerminalError] = CheckpointError) -> Any:
    """The value of a JSON text.

    Raises:
        GerminalError: as `error`; it is not JSON, is nested too deep, or holds half of a character.
    """
    try:
        value = json.loads(text)
    except RecursionError:
        raise error(f"is nested more than {MAX_DEPTH} deep.", where=where) from None
    except json.JSONDecodeError as problem:
        place = f"line {problem.lineno}, column {problem.colno}" if "\n" in text else f"column {problem.colno}"
        raise error(f"is not valid JSON: {problem.msg} at {place}.", where=where) from problem
    except ValueError as problem:  # of a number with thousands of digits
        raise error(f"is not valid JSON: {problem}.", where=where) from problem
    _check_depth(value, where, error)
    if _SURROGATE.search(text):
        _check_characters(value, where, error)
    return value


def _check_depth(value: Any, where: str, error: type[GerminalError]) -> None:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [inner for item in level for inner in _parts(item) if type(inner) in (dict, list)]
        if not level:
            return
    raise error(f"is nested more than {MAX_DEPTH} deep.", where=where)


def _parts(value: Any) -> Iterable[Any]:
    return value.values() if type(value) is dict else value if type(value) is list else ()


def _check_characters(value: Any, where: str, error: type[GerminalError]) -> None:
    """Refuse a lone surrogate, which JSON can spell and UTF-8 cannot."""
    todo = [value]
    while todo:
        item = todo.pop()
        todo += _parts(item)
        for text in [item] if isinstance(item, str) else item if isinstance(item, dict) else ():
            try:
                text.encode()
            except UnicodeEncodeError as problem:
                half = f"\\u{ord(text[problem.start]):04x}"
                raise error(f"holds {half}, which is half of a character.", where=where) from None
