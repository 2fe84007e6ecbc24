"""Attention (Vaswani et al. 2017, arXiv 1706.03762, section 3.2), with grouped key-value heads (Ainslie et al. 2023,
arXiv 2305.13245).

The module projects and rotates; which tokens see which, and where keys and values are kept, is the business of the
`AttentionView` it is given. A view of a padded batch and a view of a cache are the two that exist.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from germinal.layers.linear import Linear
from germinal.layers.positions import Positions, Rotation


def attend(
    query: Tensor, key: Tensor, value: Tensor, *, scale: float, mask: Tensor | None, causal: bool = False
) -> Tensor:
    """softmax(Q K^T scale) V, the one place where attention is computed.

    Args:
        query: [B, H, T, E].
        key, value: [B, K, S, E]; each serves H / K query heads.
        scale: Factor of the scores.
        mask: bool, True where a query may look, or a float bias to add; broadcastable to [B, H, T, S].
        causal: Without a mask and with T = S: each token sees itself and what came before.

    Returns:
        [B, H, T, E].
    """
    if _is_slow_backward(query):
        mask = mask if mask is None or mask.dtype == torch.bool else mask.float()
        heads = (query.float(), key.float(), value.float())
        return attend(*heads, scale=scale, mask=mask, causal=causal).to(query.dtype)
    grouped = query.shape[1] != key.shape[1]
    return F.scaled_dot_product_attention(
        query, key, value, attn_mask=mask, is_causal=causal, scale=scale, enable_gqa=grouped
    )


def _is_slow_backward(query: Tensor) -> bool:
    """On CPUs torch's bfloat16 backward pass of short sequences takes 2 to 5 times as long as float32's."""
    short = query.shape[2] <= 256
    return short and query.dtype == torch.bfloat16 and query.device.type == "cpu" and torch.is_grad_enabled()


class AttentionView(Protocol):
    """What one forward pass knows of its tokens: their positions, who sees whom, and where keys and values live."""

    position_ids: Tensor

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float, positions: Positions
    ) -> Tensor:
        """[..., H, E], [..., K, E] twice -> [..., H, E]."""
        ...


class PaddedView:
    """A batch [B, T] of sequences attended as they stand, without a cache: training, scoring whole batches, encoders.

    Args:
        input_ids: [B, T], for its shape and device.
        attention_mask: [B, T], nonzero where a token is real; padding on either side and holes are fine.
        causal: A token sees only itself and earlier ones.
        position_ids: [B, T]; 0, 1, 2, ... when not given.
    """

    def __init__(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        *,
        causal: bool,
        position_ids: Tensor | None = None,
    ) -> None:
        length = input_ids.shape[1]
        if position_ids is None:
            position_ids = torch.arange(length, device=input_ids.device).expand_as(input_ids)
        self.position_ids = position_ids
        # Without padding the fused kernel needs no mask: one look at a small tensor saves work in every layer.
        self._plain = attention_mask is None or bool(attention_mask.all())
        self._causal = causal
        self._mask = None if self._plain else self._visible(attention_mask, length)

    def _visible(self, attention_mask: Tensor | None, length: int) -> Tensor:
        assert attention_mask is not None
        visible = attention_mask.bool()[:, None, None, :].expand(-1, 1, length, length)  # [B, 1, T, S]
        if self._causal:
            visible = visible & torch.ones(length, length, dtype=torch.bool, device=visible.device).tril()
        # A padding token sees itself: a row with nothing to look at would be 0 / 0 and its NaN would spread.
        return visible | torch.eye(length, dtype=torch.bool, device=visible.device)

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float, positions: Positions
    ) -> Tensor:
        mask = add_bias(self._mask, positions.bias(self.position_ids, self.position_ids), self._causal)
        query, key, value = (heads.transpose(1, 2) for heads in (query, key, value))  # [B, H, T, E]
        return attend(query, key, value, scale=scale, mask=mask, causal=self._causal and mask is None).transpose(1, 2)


def add_bias(mask: Tensor | None, bias: Tensor | None, causal: bool) -> Tensor | None:
    """One tensor out of a boolean mask and an additive bias, either of which may be absent."""
    if bias is None:
        return mask
    if mask is None and causal:
        mask = torch.ones(bias.shape[-2:], dtype=torch.bool, device=bias.device).tril()
    return bias if mask is None else bias.masked_fill(~mask, torch.finfo(bias.dtype).min)


class Attention(nn.Module):
    """Multi-head self-attention.

    Args:
        hidden_size: D.
        num_heads, num_kv_heads, head_dim: H, K, E.
        scale: Factor of the scores, E^-0.5 in most families.
        bias: Whether the query, key and value projections have one.
        output_bias: Whether the output projection has one.
        positions: The strategy shared by the layers of a stack.
    """

    def __init__(
        self,
        hidden_size: int,
        num_heads: int,
        num_kv_heads: int,
        head_dim: int,
        *,
        scale: float,
        bias: bool,
        output_bias: bool,
        positions: Positions,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        self.head_dim = head_dim
        self.scale = scale
        # In a tuple, since the stack owns the strategy: registered here, its parameters would count once a layer.
        self._positions = (positions,)
        self.q_proj = Linear(hidden_size, num_heads * head_dim, bias=bias, device=device)
        self.k_proj = Linear(hidden_size, num_kv_heads * head_dim, bias=bias, device=device)
        self.v_proj = Linear(hidden_size, num_kv_heads * head_dim, bias=bias, device=device)
        self.o_proj = Linear(num_heads * head_dim, hidden_size, bias=output_bias, device=device)

    def forward(self, hidden_states: Tensor, view: AttentionView, rotation: Rotation | None, layer: int) -> Tensor:
        """[..., D] -> [..., D]."""
        positions = self._positions[0]
        query = self.q_proj(hidden_states).unflatten(-1, (-1, self.head_dim))  # [..., H, E]
        key = self.k_proj(hidden_states).unflatten(-1, (-1, self.head_dim))  # [..., K, E]
        value = self.v_proj(hidden_states).unflatten(-1, (-1, self.head_dim))  # [..., K, E]
        query, key = positions.rotate(query, rotation), positions.rotate(key, rotation)
        heads = view.attend(layer, query, key, value, self.scale, positions)  # [..., H, E]
        return self.o_proj(heads.flatten(-2))
