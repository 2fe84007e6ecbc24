"""The attention function where it takes another path than torch's kernel."""

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


@pytest.mark.parametrize("mask", masks(), ids=["causal", "bool", "bias"])
def test_few_tokens_of_many_sequences_are_attended_as_torch_attends(mask: Tensor | None) -> None:
    """Without gradients these take the written-out path; here against torch's kernel, a query that sees nothing too."""
    query, key, value = (tensor.detach().repeat(2, 1, 1, 1) for tensor in heads(torch.float32))
    if mask is not None and mask.dtype == torch.bool:
        mask = mask.clone()
        mask[3] = False
    with torch.inference_mode():
        ours = attend(query, key, value, scale=0.3, mask=mask, causal=mask is None)
        expected = torch.nn.functional.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, is_causal=mask is None, scale=0.3, enable_gqa=True
        )
    torch.testing.assert_close(ours, expected)
