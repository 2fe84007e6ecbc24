"""The files of torch.save: a pickle that says which values of which storage each tensor has, and the storages. Since
torch 1.6 they are the entries of a zip archive; before, they stood one after another.

The pickle is read as data and never run, and what it says of a storage must be what the file has. (torch.load, with
`mmap`, takes compressed entries for values.)
"""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from germinal.checkpoints.mapped_file import MappedFile, malformed
from germinal.checkpoints.pickle_data import Call, Name, Reference, read_pickle
from germinal.checkpoints.stored import Stored, check_dtype
from germinal.errors import UnsafeFileError, UnsupportedError

_MAX_PICKLE = 1 << 24
"""Bytes; a pickle has about two hundred for each tensor."""
_MAGIC = 0x1950A86A20F9469CFC6C
"""The first value of a file from before torch 1.6."""

_STORAGES = {
    **{"DoubleStorage": torch.float64, "FloatStorage": torch.float32, "HalfStorage": torch.float16},
    **{"BFloat16Storage": torch.bfloat16, "BoolStorage": torch.bool, "ByteStorage": torch.uint8},
    **{"CharStorage": torch.int8, "ShortStorage": torch.int16, "IntStorage": torch.int32, "LongStorage": torch.int64},
    **{"ComplexFloatStorage": torch.complex64, "ComplexDoubleStorage": torch.complex128},
    "UntypedStorage": torch.uint8,
}
_BUILDERS = ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3")
_PARAMETERS = ("_rebuild_parameter", "_rebuild_parameter_with_state")

_LOCAL_HEADER, _ENCRYPTED, _IN_UTF8 = b"PK\x03\x04", 1, 1 << 11

Values = Callable[[torch.dtype, int, int], Tensor]
"""Reads the values of a storage: their dtype, the first byte, their number."""


@dataclass(frozen=True, slots=True)
class _View:
    """A tensor as a pickle describes it.

    Attributes:
        storage: The key of its storage.
        storage_bytes: How many bytes the pickle says that this has.
        dtype: Of its values.
        offset: Of its first value, in values.
        shape, strides: As torch's, in values.
    """

    storage: str
    storage_bytes: int
    dtype: torch.dtype
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def span(self) -> int:
        """The number of values from its first to its last."""
        if 0 in self.shape:
            return 0
        return 1 + sum((size - 1) * stride for size, stride in zip(self.shape, self.strides, strict=True))


@dataclass(frozen=True, slots=True)
class _Storage:
    size: int
    """In bytes."""
    values: Values


def read_torch_file(path: Path) -> dict[str, Stored]:
    """The tensors of a file.

    Raises:
        CheckpointError: the file is truncated or malformed.
        UnsafeFileError: its pickle calls something else than what rebuilds tensors.
        UnsupportedError: it is not a mapping of names to plain tensors.
    """
    file = MappedFile(path)
    zipped = file.read(0, min(4, file.size)) == _LOCAL_HEADER
    views, storages = (_read_archive if zipped else _read_sequence)(file)
    users = Counter(view.storage for view in views.values())
    stored: dict[str, Stored] = {}
    for name, view in views.items():
        storage = storages.get(view.storage)
        if storage is None:
            raise malformed(path, f"the storage '{view.storage}' of '{name}' is not there")
        if view.storage_bytes != storage.size or (view.offset + view.span) * view.dtype.itemsize > storage.size:
            raise malformed(path, f"'{name}' is larger than its storage of {storage.size:,} bytes")
        dtype = str(view.dtype).removeprefix("torch.")
        stored[name] = Stored(
            view.shape, dtype, partial(_load, name, view, storage.values, users[view.storage] > 1, path)
        )
    return stored


def _load(name: str, view: _View, values: Values, shared: bool, path: Path, dtype: torch.dtype) -> Tensor:
    check_dtype(name, str(view.dtype).removeprefix("torch."), str(path))
    if prod(view.shape) > view.span:
        raise UnsupportedError(f"'{name}' repeats values of its storage.", where=str(path), hint="Save it in full.")
    flat = values(view.dtype, view.offset * view.dtype.itemsize, view.span)
    tensor = flat.as_strided(view.shape, view.strides).contiguous()
    # Two tensors of one storage would change together in training.
    return tensor.to(dtype, copy=shared and tensor.dtype == dtype)


def _read_archive(file: MappedFile) -> tuple[dict[str, _View], Mapping[str, _Storage]]:
    try:
        with zipfile.ZipFile(file.path) as archive:
            entries = {entry.filename: entry for entry in archive.infolist()}
            pickles = [name for name in entries if name.endswith("/data.pkl") and name.count("/") == 1]
            if len(pickles) != 1 or len(entries) != len(archive.infolist()):
                raise malformed(file.path, "it is a zip archive, but not one of torch.save")
            root = pickles[0].removesuffix("data.pkl")
            if f"{root}byteorder" in entries and archive.read(f"{root}byteorder") != b"little":
                raise _foreign(file.path)
            if entries[pickles[0]].file_size > _MAX_PICKLE:
                raise malformed(file.path, f"its pickle would have {entries[pickles[0]].file_size:,} bytes")
            views = _views(_pickle(BytesIO(archive.read(pickles[0])), file.path), file.path)
            prefix = f"{root}data/"
            storages = {
                name.removeprefix(prefix): _Storage(entry.file_size, _entry_values(file, entry))
                for name, entry in entries.items()
                if name.startswith(prefix)
            }
    except _DAMAGED as error:
        raise malformed(file.path, str(error)) from error
    return views, storages


_DAMAGED = (
    *(zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, struct.error),
    *(OSError, EOFError, ValueError, OverflowError, NotImplementedError, RuntimeError),  # RuntimeError: encrypted
)


def _entry_values(file: MappedFile, entry: zipfile.ZipInfo) -> Values:
    if entry.compress_type != zipfile.ZIP_STORED:
        return partial(_compressed_values, file.path, entry)
    local = file.read(entry.header_offset, 30)
    name, extra = int.from_bytes(local[26:28], "little"), int.from_bytes(local[28:30], "little")
    start = entry.header_offset + 30 + name + extra
    expected = entry.orig_filename.encode("utf-8" if entry.flag_bits & _IN_UTF8 else "cp437")
    if local[:4] != _LOCAL_HEADER or file.read(entry.header_offset + 30, name) != expected:
        raise malformed(file.path, f"{entry.filename} is not where the archive says")
    if entry.flag_bits & _ENCRYPTED or entry.compress_size != entry.file_size or start + entry.file_size > file.size:
        raise malformed(file.path, f"{entry.filename} would end behind the file")
    return partial(_values_from, file, start)


def _values_from(file: MappedFile, start: int, dtype: torch.dtype, first: int, count: int) -> Tensor:
    return file.values(dtype, start + first, count)


def _compressed_values(path: Path, entry: zipfile.ZipInfo, dtype: torch.dtype, first: int, count: int) -> Tensor:
    try:
        with zipfile.ZipFile(path) as archive:
            content = bytearray(archive.read(entry))
    except _DAMAGED as error:
        raise malformed(path, str(error)) from error
    return torch.frombuffer(content, dtype=dtype, count=count, offset=first) if count else torch.empty(0, dtype=dtype)


def _read_sequence(file: MappedFile) -> tuple[dict[str, _View], Mapping[str, _Storage]]:
    """Three pickles about the format, that of the tensors, that of the storages' keys; then the storages, each after
    the number of its values.
    """
    stream = BytesIO(file.read(0, min(file.size, _MAX_PICKLE)))
    first = _pickle(stream, file.path)
    if first != _MAGIC:
        _views(first, file.path)  # a pickle of another origin, which may do other things
        raise UnsupportedError("is not a file of torch.save.", where=str(file.path), hint="Save it as safetensors.")
    _, system = _pickle(stream, file.path), _pickle(stream, file.path)
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise _foreign(file.path)
    views = _views(_pickle(stream, file.path), file.path)
    sizes = {view.storage: (view.dtype.itemsize, view.storage_bytes) for view in views.values()}
    return views, dict(_storages(file, _pickle(stream, file.path), sizes, stream.tell()))


def _storages(
    file: MappedFile, keys: Any, sizes: Mapping[str, tuple[int, int]], place: int
) -> Iterator[tuple[str, _Storage]]:
    if not isinstance(keys, list) or len(set(map(str, keys))) != len(keys):
        raise malformed(file.path, "it has no list of its storages")
    for key in map(str, keys):
        if key not in sizes:
            raise malformed(file.path, f"no tensor has the storage '{key}'")
        item, size = sizes[key]
        count = int.from_bytes(file.read(place, 8), "little")
        if count * item != size or place + 8 + size > file.size:
            raise malformed(file.path, f"the storage '{key}' would have {count:,} values")
        yield key, _Storage(size, partial(_values_from, file, place + 8))
        place += 8 + size


def _pickle(stream: BytesIO, path: Path) -> Any:
    try:
        return read_pickle(stream)
    except ValueError as error:
        raise malformed(path, str(error)) from error


def _views(state: Any, path: Path) -> dict[str, _View]:
    if isinstance(state, Call):
        raise _unsafe(state.function, path)
    if not isinstance(state, dict) or not all(isinstance(name, str) for name in state):
        raise UnsupportedError("is not a mapping of names to tensors.", where=str(path))
    return {name: _view(name, value, path) for name, value in state.items()}


def _view(name: str, value: Any, path: Path) -> _View:
    if isinstance(value, dict):
        raise UnsupportedError(
            f"'{name}' is a mapping, not a tensor.", where=str(path), hint="Save the mapping of the weights by itself."
        )
    if not isinstance(value, Call):
        raise UnsupportedError(f"is not a mapping of names to tensors: '{name}' is not one.", where=str(path))
    module, _, function = value.function.rpartition(".")
    if module not in ("torch._utils", "torch._tensor"):
        raise _unsafe(value.function, path)
    if function in _PARAMETERS and value.arguments:
        return _view(name, value.arguments[0], path)
    if function not in _BUILDERS:
        raise UnsupportedError(f"'{name}' is not a plain tensor ({function}).", where=str(path))
    try:
        return _described(value.arguments)
    except (LookupError, TypeError, ValueError) as error:
        raise malformed(path, f"'{name}' is not a tensor as expected: {error}") from error


def _described(arguments: tuple[Any, ...]) -> _View:
    """The view that a builder's arguments describe.

    Raises:
        LookupError, TypeError, ValueError: they do not describe a view of a storage.
    """
    storage, offset, shape, strides, *more = arguments
    if not isinstance(storage, Reference) or storage.to[0] != "storage" or not isinstance(storage.to[1], Name):
        raise ValueError("it has no storage")
    _, kind, key, _, count, *parent = storage.to
    numbers = (offset, count, *shape, *strides)
    if len(shape) != len(strides) or not all(type(each) is int and 0 <= each < 2**63 for each in numbers):
        raise ValueError("its sizes are not whole numbers")
    own = dtype = _STORAGES[kind.name.rpartition(".")[2]]
    _, _, *about = more or (False, None)  # whether it has gradients, and their hooks
    if about and isinstance(about[0], Name):
        dtype = getattr(torch, about.pop(0).name.rpartition(".")[2])
    if not isinstance(dtype, torch.dtype):
        raise ValueError("its dtype is not known")
    if any(parent) or any(about):
        raise ValueError("it is a view of a kind that is not read")
    return _View(str(key), count * own.itemsize, dtype, offset, tuple(shape), tuple(strides))


def _foreign(path: Path) -> UnsupportedError:
    return UnsupportedError("was written by a machine with another order of bytes.", where=str(path))


def _unsafe(function: str, path: Path) -> UnsafeFileError:
    return UnsafeFileError(
        f"is a pickle with more than tensors, which could run code ({function}); it was not run.",
        where=str(path),
        hint="Use a checkpoint in safetensors.",
    )
