"""A stack: blocks one after the other between the embedding and the final norm."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from germinal.layers.attention import AttentionView
from germinal.layers.positions import Positions


class Stack(nn.Module):
    """Positions, blocks and a final norm (`Identity` in families without one)."""

    def __init__(self, blocks: Sequence[nn.Module], positions: Positions, final_norm: nn.Module) -> None:
        super().__init__()
        self.positions = positions
        self.layers = nn.ModuleList(blocks)
        self.final_norm = final_norm

    def forward(self, hidden_states: Tensor, view: AttentionView) -> Tensor:
        """[..., D] -> [..., D]."""
        hidden_states = self.positions.embed(hidden_states, view.position_ids)
        rotation = self.positions.rotation(view.position_ids, hidden_states.dtype)
        for index, layer in enumerate(self.layers):
            hidden_states = layer(hidden_states, view, rotation, index)
        return self.final_norm(hidden_states)
