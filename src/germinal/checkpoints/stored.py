"""Tensors as they lie in a checkpoint's files: what is known of them before their values are read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Stored:
    """One tensor of a checkpoint file, of which shape and precision are known and the values not yet read.

    Attributes:
        shape: Its shape in the file.
        precision: How the file stores it.
        load: Reads it in a given dtype; without a copy when it is stored so.
    """

    shape: tuple[int, ...]
    precision: str
    load: Callable[[torch.dtype], Tensor]


def preferred_dtype(stored: Iterable[Stored]) -> torch.dtype:
    """bfloat16 where the matrices are stored so, else float32, which holds every other precision exactly."""
    kinds = {tensor.precision for tensor in stored if len(tensor.shape) > 1}
    return torch.bfloat16 if kinds == {"bfloat16"} else torch.float32


def main_precision(stored: Iterable[Stored]) -> str:
    """The precision that most of the values are stored in."""
    values: Counter[str] = Counter()
    for tensor in stored:
        values[tensor.precision] += prod(tensor.shape)
    return values.most_common(1)[0][0] if values else "none"
