"""The blocks of a stack, by name. A block is given its sublayers and norms, and defines the order in which they act."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from germinal.errors import UnsupportedError
from germinal.layers.attention import Attention, AttentionView, CrossAttention
from germinal.layers.feed_forward import FeedForward


class PreNormBlock(nn.Module):
    """x + f(norm(x)) for each sublayer f (Xiong et al. 2020, arXiv 2002.04745)."""

    def __init__(
        self,
        norm: Callable[[], nn.Module],
        attention: Attention,
        feed_forward: FeedForward,
        cross_attention: CrossAttention | None,
    ) -> None:
        super().__init__()
        self.attention_norm = norm()
        self.self_attention = attention
        self.cross_attention_norm = None if cross_attention is None else norm()
        self.cross_attention = cross_attention
        self.feed_forward_norm = norm()
        self.feed_forward = feed_forward

    def forward(self, hidden_states: Tensor, view: AttentionView, layer: int) -> Tensor:
        """[..., D] -> [..., D]."""
        hidden_states = hidden_states + self.self_attention(self.attention_norm(hidden_states), view, layer)
        if self.cross_attention is not None and self.cross_attention_norm is not None:
            normed = self.cross_attention_norm(hidden_states)
            hidden_states = hidden_states + self.cross_attention(normed, view, layer)
        return hidden_states + self.feed_forward(self.feed_forward_norm(hidden_states))


class PostNormBlock(PreNormBlock):
    """norm(x + f(x)) for each sublayer f (arXiv 1706.03762, section 3.1)."""

    def forward(self, hidden_states: Tensor, view: AttentionView, layer: int) -> Tensor:
        """[..., D] -> [..., D]."""
        hidden_states = self.attention_norm(hidden_states + self.self_attention(hidden_states, view, layer))
        if self.cross_attention is not None and self.cross_attention_norm is not None:
            crossed = self.cross_attention(hidden_states, view, layer)
            hidden_states = self.cross_attention_norm(hidden_states + crossed)
        return self.feed_forward_norm(hidden_states + self.feed_forward(hidden_states))


class OneStackBlock(nn.Module):
    """The sublayers of a block without cross-attention, which cannot be used in the decoder of an encoder-decoder.

    Raises:
        UnsupportedError: it was given cross-attention.
    """

    def __init__(
        self,
        norm: Callable[[], nn.Module],
        attention: Attention,
        feed_forward: FeedForward,
        cross_attention: CrossAttention | None,
    ) -> None:
        super().__init__()
        if cross_attention is not None:
            raise UnsupportedError(
                f"an encoder-decoder needs cross-attention, which {type(self).__name__} does not have.",
                where="config.block, config.norm_placement",
                hint='Use block="sequential" with norm_placement="pre" or "post".',
            )
        self.self_attention = attention
        self.feed_forward = feed_forward


class SandwichBlock(OneStackBlock):
    """x + norm(f(norm(x))) for each sublayer f (Gemma 2, arXiv 2408.00118)."""

    def __init__(
        self,
        norm: Callable[[], nn.Module],
        attention: Attention,
        feed_forward: FeedForward,
        cross_attention: CrossAttention | None,
    ) -> None:
        super().__init__(norm, attention, feed_forward, cross_attention)
        self.attention_norm = norm()
        self.attention_output_norm = norm()
        self.feed_forward_norm = norm()
        self.feed_forward_output_norm = norm()

    def forward(self, hidden_states: Tensor, view: AttentionView, layer: int) -> Tensor:
        """[..., D] -> [..., D]."""
        attended = self.self_attention(self.attention_norm(hidden_states), view, layer)
        hidden_states = hidden_states + self.attention_output_norm(attended)
        return hidden_states + self.feed_forward_output_norm(self.feed_forward(self.feed_forward_norm(hidden_states)))


class ParallelBlock(OneStackBlock):
    """x + attention(norm(x)) + feed_forward(norm(x)), with one norm (PaLM, arXiv 2204.02311, section 2)."""

    def __init__(
        self,
        norm: Callable[[], nn.Module],
        attention: Attention,
        feed_forward: FeedForward,
        cross_attention: CrossAttention | None,
    ) -> None:
        super().__init__(norm, attention, feed_forward, cross_attention)
        self.norm = norm()

    def forward(self, hidden_states: Tensor, view: AttentionView, layer: int) -> Tensor:
        """[..., D] -> [..., D]."""
        normed = self.norm(hidden_states)
        return hidden_states + self.self_attention(normed, view, layer) + self.feed_forward(normed)


BLOCKS: dict[tuple[str, str], type[nn.Module]] = {
    ("sequential", "pre"): PreNormBlock,
    ("sequential", "post"): PostNormBlock,
    ("sequential", "sandwich"): SandwichBlock,
    ("parallel", "pre"): ParallelBlock,
}
"""(order of the sublayers, placement of the norms) -> block."""
