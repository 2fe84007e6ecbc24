"""How a Transformer knows where a token stands. A strategy has three hooks, and does nothing in those it leaves alone:

- `embed` adds to the token embeddings (sinusoidal, learned);
- `rotation`/`rotate` turn queries and keys (rotary);
- `bias` adds to the attention scores (ALiBi, T5's buckets).

Attention calls all three, so that no layer asks which strategy it has.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

Rotation = tuple[Tensor, Tensor]


class Positions(nn.Module):
    """No positions at all; the base of every strategy."""

    def embed(self, hidden_states: Tensor, position_ids: Tensor) -> Tensor:
        """[..., D], [...] -> [..., D]."""
        return hidden_states

    def rotation(self, position_ids: Tensor, dtype: torch.dtype) -> Rotation | None:
        """What `rotate` needs, worked out once a forward pass and shared by all layers."""
        return None

    def rotate(self, heads: Tensor, rotation: Rotation | None) -> Tensor:
        """[..., H, E] -> [..., H, E]."""
        return heads

    def bias(self, query_positions: Tensor, key_positions: Tensor) -> Tensor | None:
        """[B, T], [B, S] -> [B, H, T, S] to add to the scores, or None."""
        return None


@dataclass(frozen=True, slots=True)
class RopeScaling:
    """How a rotary base is stretched for a longer context.

    Attributes:
        kind: "linear" divides every frequency by `factor` (Chen et al. 2023, arXiv 2306.15595); "llama3" divides the
            slow ones only and blends between (Llama 3.1's release, https://github.com/meta-llama/llama-models).
        factor: How many times longer the context is.
        low_freq_factor, high_freq_factor: llama3: wavelengths above `original / low` are slow, those below
            `original / high` fast.
        original_max_position_embeddings: llama3: the context length before stretching.
    """

    kind: Literal["linear", "llama3"]
    factor: float
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_max_position_embeddings: int = 8192


def rotary_frequencies(head_dim: int, theta: float, scaling: RopeScaling | None = None) -> Tensor:
    """Radians per position for each pair of a head's dimensions: float32 [E / 2] (arXiv 2104.09864, section 3.2.2)."""
    exponents = torch.arange(0, head_dim, 2, dtype=torch.int64).float() / head_dim
    frequencies = 1.0 / theta**exponents
    if scaling is None:
        return frequencies
    if scaling.kind == "linear":
        return frequencies / scaling.factor
    wavelengths = 2 * math.pi / frequencies
    low, high = scaling.low_freq_factor, scaling.high_freq_factor
    original = scaling.original_max_position_embeddings
    smooth = ((original / wavelengths - low) / (high - low)).clamp(0, 1)
    return (1 - smooth) * frequencies / scaling.factor + smooth * frequencies


class Rotary(Positions):
    """Rotary embedding in the half-split layout: dimension i turns with dimension i + E / 2."""

    def __init__(self, head_dim: int, theta: float, scaling: RopeScaling | None = None) -> None:
        super().__init__()
        # Kept out of buffers: it is derived from the config, never loaded, and must survive the meta device.
        self.frequencies = rotary_frequencies(head_dim, theta, scaling)

    def rotation(self, position_ids: Tensor, dtype: torch.dtype) -> Rotation:
        """Cosines and sines, [..., 1, E] each; the sine carries the minus sign of the half that is subtracted."""
        self.frequencies = self.frequencies.to(position_ids.device)
        angles = position_ids[..., None].float() * self.frequencies  # [..., E/2], float32: bfloat16 loses far positions
        cos, sin = angles.cos(), angles.sin()
        return torch.cat((cos, cos), -1)[..., None, :].to(dtype), torch.cat((-sin, sin), -1)[..., None, :].to(dtype)

    def rotate(self, heads: Tensor, rotation: Rotation | None) -> Tensor:
        """(a, b) -> (a cos - b sin, b cos + a sin) for each pair of halves."""
        assert rotation is not None
        cos, sin = rotation
        return torch.addcmul(heads * cos, heads.roll(heads.shape[-1] // 2, -1), sin)
