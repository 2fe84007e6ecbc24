"""The attention function where training takes another path than inference."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from germinal.layers.attention import attend


def heads(dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = ((2, 6, 9, 8), (2, 3, 9, 8), (2, 3, 9, 8))
    query, key, value = (torch.randn(shape, generator=generator).to(dtype).requires_grad_() for shape in shapes)
    return query, key, value


def masks() -> list[Tensor | None]:
    visible = torch.ones(9, 9, dtype=torch.bool).tril()
    return [None, visible, torch.zeros(9, 9).masked_fill(~visible, -1e9)]


@pytest.mark.parametrize("mask", masks(), ids=["causal", "bool", "bias"])
def test_bfloat16_trains_as_float32_does(mask: Tensor | None) -> None:
    results = []
    for dtype in (torch.bfloat16, torch.float32):
        inputs = heads(torch.bfloat16)
        bias = mask.to(dtype) if mask is not None and mask.dtype != torch.bool else mask
        output = attend(*(tensor.to(dtype) for tensor in inputs), scale=0.3, mask=bias, causal=mask is None)
        assert output.dtype == dtype
        results.append(
            [output.float(), *(g.float() for g in torch.autograd.grad(output.float().square().sum(), inputs))]
        )
    for ours, expected in zip(*results, strict=True):
        torch.testing.assert_close(ours, expected, rtol=3e-2, atol=3e-2)
