"""The safetensors format: the length of a header, the header in JSON, and the values of the tensors one after another
(https://huggingface.co/docs/safetensors). Nothing that the header says is believed before the file is seen to have it.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from functools import partial
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from germinal.checkpoints.mapped_file import MappedFile, malformed
from germinal.checkpoints.stored import Stored, check_dtype

_MAX_HEADER = 1 << 24
"""Bytes; a header has about a hundred for each tensor."""

_DTYPES = {
    **{"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "BOOL": "bool"},
    **{f"{kind}{bits}": f"{name}{bits}" for kind, name in (("I", "int"), ("U", "uint")) for bits in (8, 16, 32, 64)},
    "C64": "complex64",
}
"""torch's names of the format's dtypes; those of smaller floats stay as in the format."""


class _Entry(NamedTuple):
    dtype: str
    shape: tuple[int, ...]
    start: int
    """In bytes, from the first value of the first tensor."""
    end: int


def read_safetensors(path: Path) -> dict[str, Stored]:
    """The tensors of a file.

    Raises:
        CheckpointError: the file is truncated or malformed.
    """
    file = MappedFile(path)
    length = int.from_bytes(file.read(0, 8), "little")
    if length > min(_MAX_HEADER, file.size - 8):
        raise malformed(path, f"its header would have {length:,} bytes")
    entries = {name: _entry(name, raw, file) for name, raw in _header(file.read(8, length), path).items()}
    _check_places(entries, file, 8 + length)
    return {
        name: Stored(entry.shape, entry.dtype, partial(_load, file, name, entry, 8 + length))
        for name, entry in entries.items()
    }


def _load(file: MappedFile, name: str, entry: _Entry, base: int, dtype: torch.dtype) -> Tensor:
    check_dtype(name, entry.dtype, str(file.path))
    values = file.values(getattr(torch, entry.dtype), base + entry.start, prod(entry.shape))
    return values.view(entry.shape).to(dtype)  # the mapped values themselves if they have this dtype


def _header(content: bytes, path: Path) -> dict[str, Any]:
    try:
        header = json.loads(content.decode(), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise malformed(path, f"its header is not JSON as expected: {error}") from error
    if not isinstance(header, dict):
        raise malformed(path, "its header is not a JSON object")
    header.pop("__metadata__", None)
    return header


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"'{next(name for name in names if names.count(name) > 1)}' stands in it twice")
    return found


def _entry(name: str, raw: Any, file: MappedFile) -> _Entry:
    dtype, shape, offsets = (raw.get(key) if isinstance(raw, dict) else None for key in _KEYS)
    shape, offsets = _whole_numbers(shape, file.size), _whole_numbers(offsets, file.size)
    if not isinstance(dtype, str) or shape is None or offsets is None:
        raise malformed(file.path, f"the entry of '{name}' has no dtype, shape and offsets that the file could hold")
    if len(offsets) != 2 or len(shape) > _MOST_DIMENSIONS:
        raise malformed(file.path, f"the entry of '{name}' has {len(offsets)} offsets and {len(shape)} dimensions")
    return _Entry(_DTYPES.get(dtype, dtype), shape, *offsets)


_KEYS = ("dtype", "shape", "data_offsets")
_MOST_DIMENSIONS = 8


def _whole_numbers(numbers: Any, most: int) -> tuple[int, ...] | None:
    """A list of whole numbers from 0 to `most`; None of anything else."""
    if isinstance(numbers, list) and all(type(number) is int and 0 <= number <= most for number in numbers):
        return tuple(numbers)
    return None


def _check_places(entries: Mapping[str, _Entry], file: MappedFile, base: int) -> None:
    """Refuse tensors that overlap, leave holes, leave the file, or have another size than their place."""
    reached = 0
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].start, item[1].end)):
        if entry.start != reached or entry.end < entry.start:
            raise malformed(file.path, f"'{name}' starts at byte {entry.start:,}, not where the one before ends")
        dtype = getattr(torch, entry.dtype, None)
        size = prod(entry.shape) * dtype.itemsize if isinstance(dtype, torch.dtype) else entry.end - entry.start
        if size != entry.end - entry.start:
            raise malformed(file.path, f"'{name}' takes {size:,} bytes, its place has {entry.end - entry.start:,}")
        reached = entry.end
    if base + reached != file.size:
        raise malformed(file.path, f"its tensors take {reached:,} bytes, of which {file.size - base:,} are there")


def write_safetensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write a file.

    Raises:
        OSError: the disk is full, or the file cannot be written.
    """
    try:
        save_file({name: each.contiguous() for name, each in tensors.items()}, path, metadata={"format": "pt"})
    except SafetensorError as error:
        # The library wraps the system's error in its own; a full disk must not look like a bug.
        if found := re.search(r"os error (\d+)", str(error)):
            raise OSError(int(found[1]), os.strerror(int(found[1])), str(path)) from error
        raise
    path.chmod(0o644)  # the library makes it readable by its owner only
