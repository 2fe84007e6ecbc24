"""The product of a linear layer, by the fastest kernel that torch ships for it.

On x86 torch multiplies float32 matrices with MKL. For the few rows of a decoding step its oneDNN kernels read the
weights 1.4 to 4 times as fast (two Zen 4 cores), and they are not slower for many rows, so that inference takes them.
They have no public name for float32; where the one used here is missing, torch's choice stands.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

_HAS_ONEDNN = torch.backends.mkldnn.enabled and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """input weight^T + bias: [..., I], [O, I], [O] -> [..., O]."""
    plain = input.device.type != "cpu" or input.dtype != torch.float32 or torch.is_grad_enabled()
    if plain or not _HAS_ONEDNN or input.numel() == 0:
        return F.linear(input, weight, bias)
    rows = input.reshape(-1, input.shape[-1])
    single = len(rows) == 1
    if single:  # one row is a matrix-vector product there, which is slow; two are a matrix product, which is not
        rows = torch.cat((rows, rows))
    output: Tensor = torch.ops.mkldnn._linear_pointwise(rows, weight, bias, "none", [], "")
    return (output[:1] if single else output).view(*input.shape[:-1], weight.shape[0])
