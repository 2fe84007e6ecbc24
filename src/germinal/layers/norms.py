"""Normalisation layers by name: RMSNorm (Zhang & Sennrich 2019, arXiv 1910.07467), LayerNorm (Ba et al. 2016,
arXiv 1607.06450).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) * weight, computed in float32 whatever the input's dtype, as checkpoints expect."""

    def __init__(self, size: int, eps: float, device: torch.device | str | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size, device=device))
        self.eps = eps

    def forward(self, hidden_states: Tensor) -> Tensor:
        """[..., D] -> [..., D]."""
        if hidden_states.dtype == torch.float32:
            return F.rms_norm(hidden_states, self.weight.shape, self.weight, self.eps)
        normed = F.rms_norm(hidden_states.float(), self.weight.shape, eps=self.eps)
        return normed.to(hidden_states.dtype) * self.weight


class OffsetRMSNorm(RMSNorm):
    """RMSNorm whose factor is 1 + weight, so that weight decay pulls it towards 1 (Gemma, arXiv 2403.08295)."""

    def __init__(self, size: int, eps: float, device: torch.device | str | None = None) -> None:
        super().__init__(size, eps, device)
        self.weight = nn.Parameter(torch.zeros(size, device=device))

    def forward(self, hidden_states: Tensor) -> Tensor:
        """[..., D] -> [..., D]."""
        normed = F.rms_norm(hidden_states.float(), self.weight.shape, 1.0 + self.weight.float(), self.eps)
        return normed.to(hidden_states.dtype)


class LayerNorm(nn.LayerNorm):
    """torch's LayerNorm with this package's constructor."""

    def __init__(self, size: int, eps: float, device: torch.device | str | None = None) -> None:
        super().__init__(size, eps=eps, device=device)


class UnbiasedLayerNorm(nn.LayerNorm):
    """LayerNorm without a bias (PaLM, arXiv 2204.02311, section 2)."""

    def __init__(self, size: int, eps: float, device: torch.device | str | None = None) -> None:
        super().__init__(size, eps=eps, bias=False, device=device)


NORMS: dict[str, Callable[..., nn.Module]] = {
    "rms": RMSNorm,
    "rms_offset": OffsetRMSNorm,
    "layer": LayerNorm,
    "layer_unbiased": UnbiasedLayerNorm,
}
