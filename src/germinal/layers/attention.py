"""Attention (Vaswani et al. 2017, arXiv 1706.03762, section 3.2), with grouped key-value heads (Ainslie et al. 2023,
arXiv 2305.13245).

The modules project, rotate and attend. Which tokens see which, and where keys and values are kept, is decided by an
`AttentionView`, which divides a batch into spans. The view of a padded batch is here; the views of the key-value cache
are in the generation backend.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from germinal.layers.linear import Linear
from germinal.layers.masks import Masking, add_bias, cross_mask, places_in_documents, real_tokens
from germinal.layers.positions import Positions, Rotation

Value = TypeVar("Value")


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    scale: float,
    mask: Tensor | None,
    causal: bool = False,
    capture: list[Tensor] | None = None,
) -> Tensor:
    """softmax(Q K^T scale) V. All attention is computed here.

    Args:
        query: [B, H, T, E].
        key, value: [B, K, S, E]; each serves H / K query heads.
        scale: Factor of the scores.
        mask: bool, True where a query sees a key, or a float bias to add; broadcastable to [B, H, T, S].
        causal: Each token sees itself and earlier ones. Requires T = S and no mask.
        capture: List to append the attention weights to, float32 [B, H, T, S]. This excludes the fused kernel, which
            does not return them.

    Returns:
        [B, H, T, E].
    """
    if capture is not None or _is_slow_fused(query, key):
        return _written_out(query, key, value, scale=scale, mask=mask, causal=causal, capture=capture)
    if _is_slow_backward(query):
        mask = mask if mask is None or mask.dtype == torch.bool else mask.float()
        heads = (query.float(), key.float(), value.float())
        return attend(*heads, scale=scale, mask=mask, causal=causal).to(query.dtype)
    grouped = query.shape[1] != key.shape[1]
    return F.scaled_dot_product_attention(
        query, key, value, attn_mask=mask, is_causal=causal, scale=scale, enable_gqa=grouped
    )


def _written_out(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    scale: float,
    mask: Tensor | None,
    causal: bool,
    capture: list[Tensor] | None,
) -> Tensor:
    """`attend` step by step, in float32. Query heads that share a key head are multiplied by it in one product."""
    shape = query.shape  # [B, H, T, E]
    sharing = (key.shape[0] * key.shape[1], -1, shape[-1])
    queries = (query.float() * scale).reshape(sharing)  # [B K, H / K T, E]
    key, value = key.float().flatten(0, 1), value.float().flatten(0, 1)  # [B K, S, E]
    scores = torch.bmm(queries, key.transpose(1, 2)).view(*shape[:3], -1)  # [B, H, T, S]
    if causal:
        assert mask is None, "a mask already says what is causal"
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    blind = None
    if mask is not None and mask.dtype == torch.bool:
        blind = ~mask.any(-1, keepdim=True)
        # Filled before it is added to the scores, because it has no heads dimension and is smaller.
        mask = torch.zeros(mask.shape, device=mask.device).masked_fill_(~mask, -torch.inf)
    if mask is not None:
        scores = scores + mask
    weights = scores.softmax(-1)
    if blind is not None and bool(blind.any()):
        weights = weights.masked_fill(blind, 0)  # zeros for a query that sees no key, as in the fused kernel
    if capture is not None:
        capture.append(weights)
    return torch.bmm(weights.view(*queries.shape[:2], -1), value).view(shape).to(query.dtype)


@dataclass(frozen=True, slots=True)
class CapturedAttention:
    """The attention weights of one pass through a stack: for each kind of attention, [B, H, T, S] per layer."""

    self_attention: list[Tensor] = field(default_factory=list)
    cross_attention: list[Tensor] = field(default_factory=list)


def _is_slow_fused(query: Tensor, key: Tensor) -> bool:
    """On CPUs torch's fused kernel takes up to 4 times as long as `_written_out` for many sequences of few tokens."""
    few = query.shape[0] >= 4 and 2 <= query.shape[2] <= 48 and key.shape[2] <= 128
    return few and query.dtype == torch.float32 and query.device.type == "cpu" and not torch.is_grad_enabled()


def _is_slow_backward(query: Tensor) -> bool:
    """On CPUs torch's backward pass of short sequences takes 2 to 5 times as long in bfloat16 as in float32."""
    short = query.shape[2] <= 256
    return short and query.dtype == torch.bfloat16 and query.device.type == "cpu" and torch.is_grad_enabled()


@dataclass(frozen=True, slots=True)
class Span:
    """Tokens of a batch that are attended in one call: B rows of T queries, each over S keys of its own.

    Attributes:
        key, value: [B, K, S, E].
        tokens: Slice of the batch's tokens that the B T queries are, row by row; None for all tokens.
        mask, causal, capture: As in `attend`.
    """

    key: Tensor
    value: Tensor
    mask: Tensor | None = None
    tokens: slice | None = None
    causal: bool = False
    capture: list[Tensor] | None = None


class AttentionView(ABC):
    """The tokens of one forward pass: their positions, which of them see which, and where keys and values are kept.

    A rotation, bias or mask that several layers share is computed once and cached here.

    Attributes:
        position_ids: [...].
    """

    position_ids: Tensor

    def __init__(self) -> None:
        self._kept: dict[Any, Any] = {}

    def cached(self, key: Any, make: Callable[[], Value]) -> Value:
        """The result of `make`, which is called only once per `key`."""
        if key not in self._kept:
            self._kept[key] = make()
        return cast("Value", self._kept[key])

    def rotation(self, positions: Positions, dtype: torch.dtype) -> Rotation | None:
        """A position strategy's rotation of the tokens."""
        return self.cached(("rotation", positions, dtype), lambda: positions.rotation(self.position_ids, dtype))

    @abstractmethod
    def spans(self, layer: int, key: Tensor, value: Tensor, attention: Attention) -> Sequence[Span]:
        """The spans of self-attention over new keys and values [..., K, E] and those kept from earlier passes."""

    @abstractmethod
    def memory_spans(self, layer: int, attention: CrossAttention) -> Sequence[Span]:
        """The spans of cross-attention over an encoder's output."""


class PaddedView(AttentionView):
    """A padded batch [B, T], without a cache: for training, scoring whole batches, and encoders.

    Args:
        input_ids: [B, T], for its shape and device.
        attention_mask: [B, T], nonzero where a token is real; padding on either side and holes are fine.
        causal: A token sees only itself and earlier ones.
        position_ids: [B, T]; by default 0, 1, 2, ... in each document.
        prefix_mask: [B, T], nonzero in the prefix of each row or document, whose tokens see each other even if causal.
        document_ids: [B, T], equal for tokens of one document; tokens do not see other documents.
        memory: An encoder's output [B, S, D], for cross-attention.
        memory_mask: [B, S], nonzero where the encoder's token is real.
        memory_document_ids: [B, S], the document of each of the encoder's tokens, numbered as in `document_ids`.
        capture: Collects the attention weights if given, without the fused kernel.
    """

    def __init__(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        *,
        causal: bool,
        position_ids: Tensor | None = None,
        prefix_mask: Tensor | None = None,
        document_ids: Tensor | None = None,
        memory: Tensor | None = None,
        memory_mask: Tensor | None = None,
        memory_document_ids: Tensor | None = None,
        capture: CapturedAttention | None = None,
    ) -> None:
        super().__init__()
        if position_ids is None and document_ids is not None:
            position_ids = places_in_documents(document_ids)
        elif position_ids is None:
            position_ids = torch.arange(input_ids.shape[1], device=input_ids.device).expand_as(input_ids)
        self.position_ids = position_ids
        self._masking = Masking.of(
            causal=causal, attention_mask=attention_mask, prefix_mask=prefix_mask, document_ids=document_ids
        )
        self._memory = memory
        self._memory_mask = cross_mask(real_tokens(memory_mask), document_ids, memory_document_ids)
        self._capture = capture

    def spans(self, layer: int, key: Tensor, value: Tensor, attention: Attention) -> Sequence[Span]:
        mask = self.cached(
            ("mask", attention.window, attention.positions), lambda: self._mask(attention.window, attention.positions)
        )
        causal = self._masking.causal and mask is None
        capture = None if self._capture is None else self._capture.self_attention
        return [Span(key.transpose(1, 2), value.transpose(1, 2), mask, causal=causal, capture=capture)]

    def memory_spans(self, layer: int, attention: CrossAttention) -> Sequence[Span]:
        assert self._memory is not None, "a cross-attention layer needs an encoder's output"
        key, value = attention.project(self._memory)
        capture = None if self._capture is None else self._capture.cross_attention
        return [Span(key.transpose(1, 2), value.transpose(1, 2), self._memory_mask, capture=capture)]

    def _mask(self, window: int | None, positions: Positions) -> Tensor | None:
        """Mask and position bias in one tensor, [B or 1, 1 or H, T, S]; None if neither is needed."""
        length, device = self.position_ids.shape[1], self.position_ids.device
        visible = self.cached(("visible", window), lambda: self._masking.visible(length, window, device))
        bias = positions.bias(self.position_ids, self.position_ids)
        if visible is None and bias is not None and self._masking.causal:
            visible = torch.ones(length, length, dtype=torch.bool, device=device).tril()
        return add_bias(visible, bias)


class Projections(nn.Module):
    """The projections of self- and cross-attention.

    Args:
        hidden_size: D.
        num_heads, num_kv_heads, head_dim: H, K, E.
        scale: Factor of the scores, E^-0.5 in most families.
        bias: Whether the query, key and value projections have a bias.
        output_bias: Whether the output projection has a bias.
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
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        self.head_dim = head_dim
        self.scale = scale
        self.q_proj = Linear(hidden_size, num_heads * head_dim, bias=bias, device=device)
        self.k_proj = Linear(hidden_size, num_kv_heads * head_dim, bias=bias, device=device)
        self.v_proj = Linear(hidden_size, num_kv_heads * head_dim, bias=bias, device=device)
        self.o_proj = Linear(num_heads * head_dim, hidden_size, bias=output_bias, device=device)

    def attend(self, query: Tensor, spans: Sequence[Span]) -> Tensor:
        """Attention of queries [..., H, E] over the keys and values of their spans -> [..., D]."""
        tokens = query.flatten(0, -3)  # [N, H, E]
        attended = []
        for span in spans:
            own = tokens if span.tokens is None else tokens[span.tokens]
            queries = own.view(len(span.key), -1, *own.shape[1:]).transpose(1, 2)  # [B, H, T, E]
            heads = attend(
                queries,
                span.key,
                span.value,
                scale=self.scale,
                mask=span.mask,
                causal=span.causal,
                capture=span.capture,
            )
            attended.append(heads.transpose(1, 2).flatten(0, 1))
        together = attended[0] if len(attended) == 1 else torch.cat(attended)  # [N, H, E]
        return cast("Tensor", self.o_proj(together.reshape(*query.shape[:-2], -1)))


class Attention(Projections):
    """Multi-head self-attention. Further arguments are those of `Projections`.

    Args:
        positions: The position strategy of this layer, owned by the stack.
        head_norm: Creates the norms of query and key heads, in families that have them.
        window: Number of tokens that a token sees, including itself; None is unlimited.
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
        head_norm: Callable[[], nn.Module] = nn.Identity,
        window: int | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        sizes = (hidden_size, num_heads, num_kv_heads, head_dim)
        super().__init__(*sizes, scale=scale, bias=bias, output_bias=output_bias, device=device)
        self.window = window
        # In a tuple, so that torch does not register it as a submodule: the stack owns the strategy's parameters.
        self._positions = (positions,)
        self.q_norm = head_norm()
        self.k_norm = head_norm()

    @property
    def positions(self) -> Positions:
        return self._positions[0]

    def forward(self, hidden_states: Tensor, view: AttentionView, layer: int) -> Tensor:
        """[..., D] -> [..., D]."""
        query = self.q_norm(self.q_proj(hidden_states).unflatten(-1, (-1, self.head_dim)))  # [..., H, E]
        key = self.k_norm(self.k_proj(hidden_states).unflatten(-1, (-1, self.head_dim)))  # [..., K, E]
        value = self.v_proj(hidden_states).unflatten(-1, (-1, self.head_dim))  # [..., K, E]
        rotation = view.rotation(self.positions, query.dtype)
        query, key = self.positions.rotate(query, rotation), self.positions.rotate(key, rotation)
        return self.attend(query, view.spans(layer, key, value, self))


class CrossAttention(Projections):
    """Attention of a decoder's tokens to an encoder's output, without positions."""

    def project(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        """The keys and values of an encoder's output: [..., S, D] -> [..., S, K, E] each."""
        key = self.k_proj(memory).unflatten(-1, (-1, self.head_dim))
        return key, self.v_proj(memory).unflatten(-1, (-1, self.head_dim))

    def forward(self, hidden_states: Tensor, view: AttentionView, layer: int) -> Tensor:
        """[..., D] -> [..., D]."""
        query = self.q_proj(hidden_states).unflatten(-1, (-1, self.head_dim))  # [..., H, E]
        return self.attend(query, view.memory_spans(layer, self))
