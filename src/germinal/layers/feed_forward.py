"""The feed-forward network of a block, plain or gated (Shazeer 2020, arXiv 2002.05202)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from germinal.layers.linear import Linear


class FeedForward(nn.Module):
    """down(activation(up(x))), or down(activation(gate(x)) * up(x)) when gated."""

    def __init__(
        self,
        hidden_size: int,
        intermediate_size: int,
        *,
        activation: str,
        gated: bool,
        bias: bool,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        self.activation = activation
        self.gate_proj = Linear(hidden_size, intermediate_size, bias=bias, device=device) if gated else None
        self.up_proj = Linear(hidden_size, intermediate_size, bias=bias, device=device)
        self.down_proj = Linear(intermediate_size, hidden_size, bias=bias, device=device)

    def forward(self, hidden_states: Tensor) -> Tensor:
        """[..., D] -> [..., D]."""
        if self.gate_proj is None:
            return self.down_proj(self.up_proj(hidden_states, self.activation))
        return self.down_proj(self.gate_proj(hidden_states, self.activation) * self.up_proj(hidden_states))
