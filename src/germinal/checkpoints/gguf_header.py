"""The header of a GGUF file (versions 2 and 3): its metadata, and where each tensor lies.

The gguf package has a reader too, which takes two seconds for a vocabulary of 49,152 and trusts every length in the
file. Here each length is checked against the rest of the file before it is used, so that a truncated or forged file is
an error that names it. The format is that of ggml's docs/gguf.md.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

from germinal.checkpoints.mapped_file import MappedFile, malformed
from germinal.errors import CheckpointError, ModelNotFoundError, UnsupportedError

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_MAX_DEPTH = 8  # arrays in arrays; real files have none
_MAX_HEADER = 1 << 27
"""Bytes of metadata; a vocabulary of 262,144 with its merges takes a tenth of it."""
_MAX_TENSORS = 1 << 16

# Value types of the format, by number: struct codes of the scalars, then string and array.
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_FLOAT32, _STRING, _ARRAY = 6, 8, 9


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """One tensor of the file.

    Attributes:
        name: Its name.
        kind: Its quantisation type.
        shape: Its shape, outermost dimension first as in torch (the file lists the innermost first).
        offset: Its first byte, from the start of the file.
        size: Its number of bytes.
    """

    name: str
    kind: GGMLQuantizationType
    shape: tuple[int, ...]
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """The header of a GGUF file, and the file, memory-mapped."""

    version: int
    metadata: dict[str, Any]
    tensors: dict[str, StoredTensor]
    file: MappedFile = field(repr=False)

    def bytes_of(self, tensor: StoredTensor) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """The bytes of one tensor, not copied."""
        found: np.ndarray[Any, np.dtype[np.uint8]] = self.file.values(torch.uint8, tensor.offset, tensor.size).numpy()
        return found


def read_header(path: Path) -> GgufHeader:
    """Read the header, and check that the file is long enough for its tensors.

    Raises:
        ModelNotFoundError: no such file.
        CheckpointError: the file is truncated or malformed.
        UnsupportedError: a version, byte order or quantisation type that is not supported.
    """
    if not path.exists():
        raise ModelNotFoundError("no such file.", where=str(path))
    cursor = _Cursor(MappedFile(path))
    version = _read_version(cursor)
    tensor_count, pair_count = cursor.number("Q"), cursor.number("Q")
    if tensor_count > _MAX_TENSORS:
        raise malformed(path, f"it would have {tensor_count:,} tensors")
    metadata: dict[str, Any] = {}
    for _ in range(pair_count):
        key = cursor.string()
        if key in metadata:
            raise cursor.malformed(f"metadata key {key!r} appears twice")
        metadata[key] = _read_value(cursor, cursor.number("I"), depth=0)
    entries = [_read_entry(cursor) for _ in range(tensor_count)]
    tensors = _place(entries, cursor, metadata.get("general.alignment", 32))
    return GgufHeader(version, metadata, tensors, cursor.file)


@dataclass(slots=True)
class _Cursor:
    """A position in the header, that cannot move past its end."""

    file: MappedFile
    place: int = 0

    @property
    def path(self) -> Path:
        return self.file.path

    def take(self, size: int) -> bytes:
        """The next `size` bytes, which are checked against the file before they are read."""
        start = self.place
        if size > self.file.size - start:
            raise malformed(self.path, f"{size:,} bytes are needed at byte {start:,} of {self.file.size:,}")
        if start + size > _MAX_HEADER:
            raise self.malformed(f"its header would be longer than {_MAX_HEADER:,} bytes")
        self.place = start + size
        return self.file.read(start, size)

    def number(self, code: str) -> Any:
        layout = struct.Struct(f"<{code}")
        return layout.unpack(self.take(layout.size))[0]

    def string(self) -> str:
        size = self.number("Q")
        try:
            return self.take(size).decode()
        except UnicodeDecodeError as error:
            raise self.malformed(f"the text at byte {self.place - size:,} is not UTF-8") from error

    def malformed(self, what: str) -> CheckpointError:
        return CheckpointError(f"is malformed: {what}.", where=str(self.path))


def _read_version(cursor: _Cursor) -> int:
    if cursor.take(4) != _MAGIC:
        raise cursor.malformed("it does not start with 'GGUF'")
    version = int(cursor.number("I"))
    if version in _VERSIONS:
        return version
    if version & 0xFFFF == 0:
        raise UnsupportedError(
            "is a big-endian GGUF file.", where=str(cursor.path), hint="Convert it to little-endian."
        )
    raise UnsupportedError(
        f"is a GGUF file of version {version}.", where=str(cursor.path), hint="Versions 2 and 3 can be read."
    )


def _read_value(cursor: _Cursor, kind: int, depth: int) -> Any:
    if kind == _STRING:
        return cursor.string()
    if kind == _FLOAT32:
        return _shortest(cursor.number("f"))
    if kind in _SCALARS:
        return cursor.number(_SCALARS[kind])
    if kind == _ARRAY and depth < _MAX_DEPTH:
        return _read_array(cursor, depth)
    raise cursor.malformed(f"the value type {kind} at byte {cursor.place - 4:,} is unknown")


def _read_array(cursor: _Cursor, depth: int) -> list[Any]:
    kind, count = cursor.number("I"), cursor.number("Q")
    if kind in _SCALARS:
        code = _SCALARS[kind]
        return list(struct.unpack(f"<{count}{code}", cursor.take(count * struct.calcsize(f"<{code}"))))
    read: Callable[[], Any] = cursor.string if kind == _STRING else lambda: _read_value(cursor, kind, depth + 1)
    return [read() for _ in range(count)]


def _shortest(value: float) -> float:
    # 1e-5, stored as float32, would be 9.999999747378752e-06 as a double.
    return float(str(np.float32(value)))


def _read_entry(cursor: _Cursor) -> tuple[str, GGMLQuantizationType, tuple[int, ...], int]:
    name = cursor.string()
    dimensions = cursor.number("I")
    if dimensions > 4:
        raise cursor.malformed(f"tensor {name!r} has {dimensions} dimensions")
    shape = tuple(cursor.number("Q") for _ in range(dimensions))
    if 0 in shape:
        raise cursor.malformed(f"tensor {name!r} has the shape {list(shape[::-1])}, and no values")
    number, offset = cursor.number("I"), cursor.number("Q")
    try:
        kind = GGMLQuantizationType(number)
    except ValueError as error:
        raise UnsupportedError(
            f"tensor {name!r} has the quantisation type {number}, which this gguf package does not know.",
            where=str(cursor.path),
        ) from error
    return name, kind, shape[::-1], offset


def _place(
    entries: list[tuple[str, GGMLQuantizationType, tuple[int, ...], int]], cursor: _Cursor, alignment: int
) -> dict[str, StoredTensor]:
    """Where each tensor is; the data starts at the next multiple of the alignment after the header."""
    if not isinstance(alignment, int) or alignment < 1 or alignment & (alignment - 1):
        raise cursor.malformed(f"alignment {alignment} is not a power of two")
    start, end = -(-cursor.place // alignment) * alignment, cursor.file.size
    tensors: dict[str, StoredTensor] = {}
    for name, kind, shape, offset in entries:
        block, size_of_block = GGML_QUANT_SIZES[kind]
        if name in tensors:
            raise cursor.malformed(f"tensor {name!r} appears twice")
        if offset % alignment:
            raise cursor.malformed(f"tensor {name!r} starts at {offset:,}, not a multiple of {alignment}")
        row = shape[-1] if shape else 1
        if row % block:
            raise cursor.malformed(f"rows of tensor {name!r} have {row} values, no multiple of {kind.name}'s {block}")
        size = prod(shape) // block * size_of_block
        if start + offset + size > end:
            raise CheckpointError(
                f"is truncated: tensor {name!r} ends at byte {start + offset + size:,} of {end:,}.",
                where=str(cursor.path),
                hint="Fetch the file again.",
            )
        tensors[name] = StoredTensor(name, kind, shape, start + offset, size)
    for one, other in pairwise(sorted(tensors.values(), key=lambda tensor: tensor.offset)):
        if one.offset + one.size > other.offset:
            raise cursor.malformed(f"tensors {one.name!r} and {other.name!r} overlap")
    return tensors
