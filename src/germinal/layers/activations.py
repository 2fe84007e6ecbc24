"""The activations by name."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F


def _quick_gelu(input: Tensor) -> Tensor:
    """x sigmoid(1.702 x) (Hendrycks & Gimpel 2016, arXiv 1606.08415, section 2)."""
    return input * torch.sigmoid(1.702 * input)


def _clipped_gelu(input: Tensor) -> Tensor:
    """Between -10 and 10, for quantisation (Wu et al. 2020, arXiv 2004.09602)."""
    return F.gelu(input).clamp(-10, 10)


def _squared_relu(input: Tensor) -> Tensor:
    """max(x, 0)^2 (So et al. 2021, arXiv 2109.08668)."""
    return F.relu(input).square()


def _laplace(input: Tensor) -> Tensor:
    """An approximation of the squared ReLU with a bounded range (Ma et al. 2022, arXiv 2209.10655)."""
    return 0.5 * (1.0 + torch.erf((input - 0.707107) / (0.282095 * math.sqrt(2.0))))


def _linear(input: Tensor) -> Tensor:
    return input


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "gelu": F.gelu,
    "gelu_tanh": partial(F.gelu, approximate="tanh"),
    "quick_gelu": _quick_gelu,
    "gelu_10": _clipped_gelu,
    "silu": F.silu,
    "tanh": torch.tanh,
    "relu2": _squared_relu,
    "relu6": F.relu6,
    "leaky_relu": F.leaky_relu,
    "sigmoid": torch.sigmoid,
    "mish": F.mish,
    "hardswish": F.hardswish,
    "laplace": _laplace,
    "linear": _linear,
}
