"""The tensors in a checkpoint's files: what is known of them before their values are read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Stored:
    """One tensor of a file, whose values have not been read.

    Attributes:
        shape: Its shape in the file.
        precision: Its precision in the file: "float32", "bfloat16", "Q4_1", ...
        load: Reads it in a given dtype; without a copy if the file has it in that dtype.
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
