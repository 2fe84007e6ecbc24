"""The product of a linear layer and its activation, by the fastest kernel that torch ships for it.

On x86 torch multiplies float32 matrices with MKL. Its oneDNN kernels read the weights 1.4 to 4 times as fast for the
few rows of a decoding step (two Zen 4 cores); many rows they multiply 5 to 15% faster, and they apply the activation
while the rows are still in the processor's cache. So inference uses oneDNN, and so does training where the weight is
frozen (LoRA), forward and backward. torch has no public name for it in float32; where the private one is missing,
torch's own choice is used.

Both libraries copy the weight into a layout of their own before multiplying, which for few rows takes longer than the
product. So up to sixteen rows are multiplied in other ways, 1.05 to 2.5 times as fast as the plain call; which way for
which sizes was measured in decoding steps of seven models: see `_of_few_rows`.
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
"""oneDNN's names of an activation and of the algorithm that computes it, for those that it has."""


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None, activation: str | None = None) -> Tensor:
    """activation(input weight^T + bias): [..., I], [O, I], [O] -> [..., O].

    Args:
        activation: A name in `ACTIVATIONS`, or None.
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
    """A copy of a float32 weight [O, I] in oneDNN's layout, which it would otherwise make again for each product.

    For inference only: the copy does not follow changes of the weight. Where oneDNN is not used, the weight itself.
    """
    if not _HAS_ONEDNN or weight.device.type != "cpu" or weight.dtype != torch.float32:
        return weight
    return torch.ops.mkldnn._reorder_linear_weight(weight.detach(), None)


def _product(input: Tensor, weight: Tensor, bias: Tensor | None, activation: str | None = None) -> Tensor:
    rows = input if input.dim() == 2 else input.reshape(-1, input.shape[-1])
    product = _of_few_rows(rows, weight)
    if product is None and activation in _FUSED:
        output = _one_dnn(rows, weight, bias, activation)
    else:
        product = _one_dnn(rows, weight, None, None) if product is None else product
        output = product if bias is None else product.add_(bias)
        output = output if activation is None else ACTIVATIONS[activation](output)
    return output if input.dim() == 2 else output.view(*input.shape[:-1], weight.shape[0])


def _of_few_rows(rows: Tensor, weight: Tensor) -> Tensor | None:
    """rows weight^T, [N, I], [O, I] -> [N, O], by a call that does not copy the weight; None where none is faster.

    - MKL, as (weight rows^T)^T: while the rows fit into half of the first-level cache;
    - MKL, as a batch of small matrices, one for each panel of 16 outputs: while there are few outputs;
    - oneDNN, as (weight rows^T)^T: it then copies the rows, and takes as long for eight as for sixteen.
    """
    num_rows, in_features = rows.shape
    out_features = weight.shape[0]
    if not 1 <= num_rows <= 16 or weight.layout != torch.strided or not weight.is_contiguous():
        return None
    if num_rows <= 6 and in_features < 2048 and max(2, num_rows) * in_features <= 4096:
        columns = rows if num_rows > 1 else torch.cat((rows, rows))  # MKL has no fast kernel for one column
        return torch.mm(weight, columns.t())[:, :num_rows].t().contiguous()
    if num_rows <= 8 and out_features <= 1024 and out_features % 16 == 0:
        panels = weight.view(-1, 16, in_features).transpose(1, 2)  # [O / 16, I, 16]
        return torch.bmm(rows.expand(len(panels), -1, -1), panels).transpose(0, 1).reshape(num_rows, out_features)
    # At a width of 1024 oneDNN picks a kernel half as fast; small weights stay in the processor's cache either way.
    if num_rows >= 8 and in_features != 1024 and weight.numel() >= 2**18:
        return _one_dnn(weight, rows, None, None).t().contiguous()
    return None


def _one_dnn(rows: Tensor, weight: Tensor, bias: Tensor | None, activation: str | None) -> Tensor:
    name, algorithm = _FUSED[activation]
    output: Tensor = torch.ops.mkldnn._linear_pointwise(rows, weight, bias, name, [], algorithm)
    return output


class _FrozenProduct(torch.autograd.Function):
    """rows weight^T + bias, [N, I] -> [N, O], with a weight that needs no gradient; backward uses the same kernels."""

    @staticmethod
    def forward(ctx: FunctionCtx, rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(weight)
        return _one_dnn(rows, weight, bias, None)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor, None, None]:
        (weight,) = ctx.saved_tensors  # type: ignore[attr-defined]
        return _product(gradient, weight.t(), None), None, None
