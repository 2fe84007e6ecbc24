"""A file in memory of which only the pages that are used are read: what all formats of weights are read through.

A tensor is a view of the mapped file, without a copy, and its pages are shared by all processes. Changes of a tensor
stay in memory.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path

import torch
from torch import Tensor

from germinal.errors import CheckpointError
from germinal.files import open_regular


def malformed(path: Path, why: str) -> CheckpointError:
    """The error of a file that is damaged."""
    return CheckpointError(f"is truncated or malformed: {why}.", where=str(path), hint="Fetch the file again.")


class MappedFile:
    """A regular file, mapped.

    Args:
        path: The file.

    Attributes:
        size: In bytes.

    Raises:
        CheckpointError: it is missing, empty, a pipe or a device, or cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with open_regular(path) as file:
            if os.fstat(file.fileno()).st_size == 0:
                raise malformed(path, "it is empty")
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        self.size = len(self._map)

    def read(self, start: int, count: int) -> bytes:
        """A copy of some bytes.

        Raises:
            CheckpointError: they are not all inside the file.
        """
        self._require(start, count)
        return self._map[start : start + count]

    def values(self, dtype: torch.dtype, start: int, count: int) -> Tensor:
        """The `count` values from byte `start` on, [count]; errors are those of `read`."""
        self._require(start, count * dtype.itemsize)
        if count == 0:
            return torch.empty(0, dtype=dtype)
        if start % dtype.itemsize:  # values that are not aligned can only be used after a copy
            return torch.frombuffer(bytearray(self.read(start, count * dtype.itemsize)), dtype=dtype)
        return torch.frombuffer(self._map, dtype=dtype, count=count, offset=start)

    def _require(self, start: int, count: int) -> None:
        if start < 0 or count < 0 or start + count > self.size:
            raise malformed(self.path, f"bytes {start:,} to {start + count:,} of a file of {self.size:,} are asked for")
