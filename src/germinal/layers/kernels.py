"""The product of a linear layer and its activation, by the fastest kernel that torch ships for it.

On x86 torch multiplies float32 matrices with MKL. For the few rows of a decoding step its oneDNN kernels read the
weights 1.4 to 4 times as fast (two Zen 4 cores), and many rows they multiply 5 to 15% faster and put through the
activation while these are still in the processor's cache. So inference takes them, and training where the weight is
frozen (LoRA), forward and back. They have no public name for float32; where the one used here is missing, torch's
choice stands.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn import functional as F

from germinal.layers.activations import ACTIVATIONS

_HAS_ONEDNN = torch.backends.mkldnn.enabled and hasattr(torch.ops.mkldnn, "_linear_pointwise")

_FUSED = {
    None: ("none", ""),
    "relu": ("relu", ""),
    "gelu": ("gelu", "none"),
    "gelu_tanh": ("gelu", "tanh"),
    "silu": ("swish", ""),
    "tanh": ("tanh", ""),
}
"""oneDNN's name of an activation, and of the way it is worked out."""


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None, activation: str | None = None) -> Tensor:
    """activation(input weight^T + bias): [..., I], [O, I], [O] -> [..., O].

    Args:
        activation: A name in `ACTIVATIONS`; None is the product itself.
    """
    one_dnn = _HAS_ONEDNN and input.device.type == "cpu" and input.dtype == torch.float32 and input.numel() > 0
    if one_dnn and not torch.is_grad_enabled():
        return _product(input, weight, bias, activation)
    if one_dnn and not weight.requires_grad and (bias is None or not bias.requires_grad):
        output: Tensor = _FrozenProduct.apply(  # type: ignore[no-untyped-call]
            input.reshape(-1, input.shape[-1]), weight, bias
        )
        output = output if input.dim() == 2 else output.view(*input.shape[:-1], weight.shape[0])
    else:
        output = F.linear(input, weight, bias)
    return output if activation is None else ACTIVATIONS[activation](output)


def packed(weight: Tensor) -> Tensor:
    """A float32 weight [O, I] in the order that the kernels read it in, which they else make for each product anew.

    A copy, for inference alone, that does not follow the weight's changes; the weight itself where there is no such
    order.
    """
    if not _HAS_ONEDNN or weight.device.type != "cpu" or weight.dtype != torch.float32:
        return weight
    return torch.ops.mkldnn._reorder_linear_weight(weight.detach(), None)


def _product(input: Tensor, weight: Tensor, bias: Tensor | None, activation: str | None = None) -> Tensor:
    rows = input if input.dim() == 2 else input.reshape(-1, input.shape[-1])
    name, algorithm = _FUSED[activation]
    output: Tensor = torch.ops.mkldnn._linear_pointwise(rows, weight, bias, name, [], algorithm)
    return output if input.dim() == 2 else output.view(*input.shape[:-1], weight.shape[0])


class _FrozenProduct(torch.autograd.Function):
    """rows weight^T + bias, [N, I] -> [N, O], of a weight that wants no gradient; back goes the same kernel."""

    @staticmethod
    def forward(ctx: FunctionCtx, rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(weight)
        output: Tensor = torch.ops.mkldnn._linear_pointwise(rows, weight, bias, "none", [], "")
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor, None, None]:
        (weight,) = ctx.saved_tensors  # type: ignore[attr-defined]
        return _product(gradient, weight.t(), None), None, None
