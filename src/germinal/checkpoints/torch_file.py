"""The files of torch.save, read by torch.load as tensors alone: their pickle is never run.

Two things are checked that torch.load takes as they are: with `mmap`, compressed values; and storages that are said to
have another size than the file has for them, which would take values of their neighbours.
"""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
from collections import Counter
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from germinal.checkpoints.mapped_file import malformed
from germinal.checkpoints.stored import Stored, check_dtype
from germinal.errors import UnsafeFileError, UnsupportedError
from germinal.files import open_regular

_MAX_PICKLE = 1 << 24
"""Bytes; a pickle has about two hundred for each tensor."""
_MAX_GROWTH = 64
"""How many times larger than its file the content of an archive may be; weights hardly shrink when compressed."""
_ARCHIVE = b"PK\x03\x04"


def read_torch_file(path: Path) -> dict[str, Stored]:
    """The tensors of a file. Since torch 1.6 it is a zip archive; before, it was a sequence of pickles and values.

    Raises:
        CheckpointError: the file is truncated or malformed.
        UnsafeFileError: its pickle calls something else than what rebuilds tensors.
        UnsupportedError: it is not a mapping of names to plain tensors.
    """
    with open_regular(path) as file:
        zipped = file.read(len(_ARCHIVE)) == _ARCHIVE
    records = _records(path) if zipped else []
    # Values that are not compressed are mapped, and read when they are used.
    mapped = zipped and all(record.compress_type == zipfile.ZIP_STORED for record in records)
    tensors = _tensors(_load(path, mmap=mapped), path)
    if zipped:
        _check_storages(tensors, records, path)
    users = Counter(map(_place, tensors.values()))
    return {
        name: Stored(
            tuple(tensor.shape), _dtype(tensor), partial(_values, name, tensor, users[_place(tensor)] > 1, path)
        )
        for name, tensor in tensors.items()
    }


def _values(name: str, tensor: Tensor, shared: bool, path: Path, dtype: torch.dtype) -> Tensor:
    check_dtype(name, _dtype(tensor), str(path))
    if tensor.numel() * tensor.itemsize > tensor.untyped_storage().nbytes():
        raise UnsupportedError(f"'{name}' repeats values of its storage.", where=str(path), hint="Save it in full.")
    # Two tensors of one storage would change together in training.
    return tensor.contiguous().to(dtype, copy=shared)


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _place(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _records(path: Path) -> list[zipfile.ZipInfo]:
    """The entries of an archive, whose sizes are not out of proportion."""
    try:
        with zipfile.ZipFile(path) as archive:
            records = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise malformed(path, str(error)) from error
    if sum(record.file_size for record in records) > _MAX_GROWTH * path.stat().st_size:
        raise malformed(path, "its content would be many times larger than the file")
    if any(record.filename.endswith("/data.pkl") and record.file_size > _MAX_PICKLE for record in records):
        raise malformed(path, f"its pickle would have more than {_MAX_PICKLE:,} bytes")
    return records


def _load(path: Path, *, mmap: bool) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickle protocols, which torch wants reported to its tracker
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL (\S+)", str(error))
        called = f" ({found[1]})" if found else ""
        raise UnsafeFileError(
            f"is a pickle with more than tensors, which could run code{called}, or a damaged one; it was not run.",
            where=str(path),
            hint="Use a checkpoint in safetensors.",
        ) from error
    except Exception as error:  # what a damaged file makes torch raise is of any kind
        raise malformed(path, f"{type(error).__name__}: {str(error).partition(chr(10))[0]}") from error


def _tensors(state: Any, path: Path) -> dict[str, Tensor]:
    if not isinstance(state, Mapping) or not all(isinstance(name, str) for name in state):
        raise UnsupportedError("is not a mapping of names to tensors.", where=str(path))
    for name, value in state.items():
        if isinstance(value, Mapping):
            raise UnsupportedError(
                f"'{name}' is a mapping, not a tensor.",
                where=str(path),
                hint="Save the mapping of the weights by itself.",
            )
        if not isinstance(value, Tensor):
            raise UnsupportedError(f"is not a mapping of names to tensors: '{name}' is not one.", where=str(path))
        if value.layout != torch.strided or value.is_quantized or value.is_meta:
            raise UnsupportedError(f"'{name}' is not a plain tensor, but {value.type()}.", where=str(path))
    return {name: value.detach() for name, value in state.items()}


def _check_storages(tensors: Mapping[str, Tensor], records: list[zipfile.ZipInfo], path: Path) -> None:
    storages = {(_place(tensor), tensor.untyped_storage().nbytes()) for tensor in tensors.values()}
    said = Counter(size for _, size in storages if size)
    held = Counter(record.file_size for record in records if re.search(r"/data/\d+$", record.filename))
    if wrong := said - held:
        raise malformed(path, f"it has no storage of {next(iter(wrong)):,} bytes, which a tensor should have")
