"""The blocks a stack repeats, by name. A block is given its parts, and says only in which order they act."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from germinal.layers.attention import Attention, AttentionView
from germinal.layers.feed_forward import FeedForward
from germinal.layers.positions import Rotation


class PreNormBlock(nn.Module):
    """x + attention(norm(x)), then x + feed_forward(norm(x)) (Xiong et al. 2020, arXiv 2002.04745)."""

    def __init__(self, norm: Callable[[], nn.Module], attention: Attention, feed_forward: FeedForward) -> None:
        super().__init__()
        self.attention_norm = norm()
        self.self_attention = attention
        self.feed_forward_norm = norm()
        self.feed_forward = feed_forward

    def forward(self, hidden_states: Tensor, view: AttentionView, rotation: Rotation | None, layer: int) -> Tensor:
        """[..., D] -> [..., D]."""
        attended = self.self_attention(self.attention_norm(hidden_states), view, rotation, layer)
        hidden_states = hidden_states + attended
        return hidden_states + self.feed_forward(self.feed_forward_norm(hidden_states))


BLOCKS: dict[tuple[str, str], type[nn.Module]] = {("sequential", "pre"): PreNormBlock}
"""(order of the sublayers, placement of the norms) -> block."""
