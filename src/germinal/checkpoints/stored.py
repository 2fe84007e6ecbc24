"""The tensors in a checkpoint's files: what is known of them before their values are read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from germinal.errors import UnsupportedError

READ = frozenset({"float64", "float32", "float16", "bfloat16"})
"""The dtypes that weights are read from, by torch's names. Every other dtype is refused by its name: integers and
8-bit floats are quantised weights, which mean nothing without their scales.
"""


def check_dtype(name: str, dtype: str, where: str) -> None:
    """Refuse a tensor whose stored dtype is not on the list of those that are read.

    Args:
        name: The tensor's name.
        dtype: Its dtype in the file, by torch's name ("bfloat16") or, where torch has none, the file's ("F4").
        where: The file, for the message.

    Raises:
        UnsupportedError: the dtype is not read.
    """
    if dtype not in READ:
        raise UnsupportedError(
            f"tensor '{name}' is stored as {dtype}; weights are read from {', '.join(sorted(READ))}.",
            where=where,
            hint="Quantised checkpoints are read from .gguf files only.",
        )


@dataclass(frozen=True, slots=True)
class Stored:
    """One tensor of a file, whose values have not been read.

    Attributes:
        shape: Its shape in the file.
        precision: Its precision in the file: "float32", "bfloat16", "Q4_1", ...
        load: Reads it in a given dtype; without a copy if the file has it in that dtype. Raises UnsupportedError if the
            values of a file of this precision are not read.
    """

    shape: tuple[int, ...]
    precision: str
    load: Callable[[torch.dtype], Tensor]


def preferred_dtype(stored: Iterable[Stored]) -> torch.dtype:
    """bfloat16 if all matrices are stored so; otherwise float32, which represents other precisions exactly."""
    kinds = {tensor.precision for tensor in stored if len(tensor.shape) > 1}
    return torch.bfloat16 if kinds == {"bfloat16"} else torch.float32


def main_precision(stored: Iterable[Stored]) -> str:
    """The precision of most values."""
    values: Counter[str] = Counter()
    for tensor in stored:
        values[tensor.precision] += prod(tensor.shape)
    return values.most_common(1)[0][0] if values else "none"
