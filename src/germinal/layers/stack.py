"""A stack: blocks one after the other between the embedding and the final norm."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from germinal.layers.attention import AttentionView
from germinal.layers.positions import Positions


class Stack(nn.Module):
    """Positions, blocks and norms (`Identity` in families without one).

    Args:
        blocks: The blocks.
        positions: The position strategy of the embeddings and of the blocks' attention.
        embedding_norm: Norm of the embeddings.
        final_norm: Norm of the last block's output.
    """

    def __init__(
        self, blocks: Sequence[nn.Module], positions: Positions, embedding_norm: nn.Module, final_norm: nn.Module
    ) -> None:
        super().__init__()
        self.positions = positions
        self.embedding_norm = embedding_norm
        self.layers = nn.ModuleList(blocks)
        self.final_norm = final_norm

    def forward(self, hidden_states: Tensor, view: AttentionView) -> Tensor:
        """[..., D] -> [..., D]."""
        hidden_states = self.embedding_norm(self.positions.embed(hidden_states, view.position_ids))
        for index, layer in enumerate(self.layers):
            hidden_states = layer(hidden_states, view, index)
        return self.final_norm(hidden_states)
