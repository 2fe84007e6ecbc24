"""The safetensors format (https://huggingface.co/docs/safetensors): every dtype that it has is known by a name, and no
name of a tensor may stand twice.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from germinal.checkpoints.mapped_file import malformed
from germinal.checkpoints.stored import Stored, check_dtype
from germinal.files import open_regular

_MAX_HEADER = 1 << 24
"""Bytes; a header has about a hundred for each tensor."""

_DTYPES = {
    **{"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "BOOL": "bool"},
    **{f"{kind}{bits}": f"{name}{bits}" for kind, name in (("I", "int"), ("U", "uint")) for bits in (8, 16, 32, 64)},
    "C64": "complex64",
}
"""torch's names of the format's dtypes; those of smaller floats stay as in the format."""


def read_safetensors(path: Path) -> dict[str, Stored]:
    """The tensors of a file, mapped: their values are read when they are used.

    Raises:
        CheckpointError: the file is truncated or malformed.
    """
    _check_names(path)
    try:
        file: Any = safe_open(path, framework="pt", device="cpu")
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except (SafetensorError, OSError) as error:
        raise malformed(path, str(error)) from error
    stored: dict[str, Stored] = {}
    for name, each in slices.items():
        dtype = _DTYPES.get(each.get_dtype(), each.get_dtype())
        stored[name] = Stored(tuple(each.get_shape()), dtype, partial(_load, file, name, dtype, path))
    return stored


def _load(file: Any, name: str, stored_dtype: str, path: Path, dtype: torch.dtype) -> Tensor:
    check_dtype(name, stored_dtype, str(path))
    tensor: Tensor = file.get_tensor(name)
    return tensor.to(dtype)  # the mapped values themselves if they have this dtype


def _check_names(path: Path) -> None:
    """Refuse a header in which a name stands twice, of which the library would take one."""
    with open_regular(path) as file:
        prefix = file.read(8)
        if len(prefix) < 8:
            raise malformed(path, "it is too short")
        length = int.from_bytes(prefix, "little")
        if length > _MAX_HEADER:
            raise malformed(path, f"its header would have {length:,} bytes")
        header = file.read(length)
    try:
        json.loads(header.decode(), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise malformed(path, f"its header is not JSON as expected: {error}") from error


def _unique(pairs: list[tuple[str, Any]]) -> None:
    repeated = [name for name, count in Counter(name for name, _ in pairs).items() if count > 1]
    if repeated:
        raise ValueError(f"'{repeated[0]}' stands in it twice")


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
