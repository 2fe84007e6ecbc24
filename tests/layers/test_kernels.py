"""The product of a linear layer against torch's own, with and without gradients."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from germinal.layers.activations import ACTIVATIONS
from germinal.layers.kernels import linear, packed


@pytest.mark.parametrize("shape", [(1, 7), (5, 7), (2, 3, 7), (1, 1, 7), (0, 7)])
@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_output_and_gradients_are_torchs(
    shape: tuple[int, ...], has_bias: bool, trained: bool, dtype: torch.dtype
) -> None:
    torch.manual_seed(0)
    input = torch.randn(shape, dtype=dtype, requires_grad=True)
    weight = torch.randn(4, 7, dtype=dtype, requires_grad=trained)
    bias = torch.randn(4, dtype=dtype, requires_grad=trained) if has_bias else None
    wanted = [input, *(tensor for tensor in (weight, bias) if tensor is not None and trained)]
    ours, expected = linear(input, weight, bias), F.linear(input, weight, bias)
    torch.testing.assert_close(ours, expected)
    upstream = torch.randn_like(expected)
    for mine, theirs in zip(
        torch.autograd.grad(ours, wanted, upstream), torch.autograd.grad(expected, wanted, upstream), strict=True
    ):
        torch.testing.assert_close(mine, theirs)
    with torch.no_grad():
        torch.testing.assert_close(linear(input, weight, bias), expected)


def test_what_comes_out_can_be_added_to_in_place() -> None:
    rows, weight = torch.randn(5, 7, requires_grad=True), torch.randn(4, 7)
    added = torch.randn(5, 4, requires_grad=True)
    linear(rows, weight).add_(added).sum().backward()
    assert added.grad is not None
    torch.testing.assert_close(rows.grad, weight.sum(0).expand(5, 7))


def test_gradients_that_are_not_contiguous() -> None:
    rows, weight = torch.randn(5, 7, requires_grad=True), torch.randn(4, 7)
    linear(rows, weight).t().sum().backward()
    torch.testing.assert_close(rows.grad, weight.sum(0).expand(5, 7))


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
@pytest.mark.parametrize("rows", [1, 2, 6, 8, 16, 17])  # on each side of where another way is taken
@pytest.mark.parametrize("sizes", [(7, 4), (512, 528), (2100, 32)])
def test_an_activation_is_torchs(activation: str, rows: int, sizes: tuple[int, int]) -> None:
    torch.manual_seed(0)
    in_features, out_features = sizes
    input, weight = torch.randn(rows, in_features) * 3, torch.randn(out_features, in_features) / in_features**0.5
    bias = torch.randn(out_features)
    expected = ACTIVATIONS[activation](F.linear(input, weight, bias))
    torch.testing.assert_close(linear(input, weight, bias, activation), expected, rtol=1e-5, atol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(linear(input, weight, bias, activation), expected, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(linear(input, packed(weight), bias, activation), expected, rtol=1e-5, atol=1e-5)
