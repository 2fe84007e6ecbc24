"""Position strategies: how a Transformer takes the tokens' positions into account. A strategy overrides some of three
hooks, which do nothing by default:

- `embed` adds to the token embeddings (sinusoidal, learned);
- `rotation`/`rotate` turn queries and keys (rotary);
- `bias` adds to the attention scores (ALiBi, T5's buckets).

Attention calls all three, so that no layer asks which strategy it has.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from germinal.layers.embedding import embedding

Rotation = tuple[Tensor, Tensor]
Scaling = Literal["linear", "llama3", "yarn", "dynamic"]
SCALINGS: tuple[str, ...] = get_args(Scaling)


class Positions(nn.Module):
    """No positions at all; the base of every strategy."""

    def embed(self, hidden_states: Tensor, position_ids: Tensor) -> Tensor:
        """[..., D], [...] -> [..., D]."""
        return hidden_states

    def rotation(self, position_ids: Tensor, dtype: torch.dtype) -> Rotation | None:
        """What `rotate` needs; the view computes it once for all layers."""
        return None

    def rotate(self, heads: Tensor, rotation: Rotation | None) -> Tensor:
        """[..., H, E] -> [..., H, E]."""
        return heads

    def bias(self, query_positions: Tensor, key_positions: Tensor) -> Tensor | None:
        """[B, T], [B, S] -> [B, H, T, S] to add to the scores, or None."""
        return None


@dataclass(frozen=True, slots=True, repr=False)
class RopeScaling:
    """How a rotary base is stretched for a longer context.

    Attributes:
        kind: "linear" divides every frequency by `factor` (Chen et al. 2023, arXiv 2306.15595). "llama3" divides the
            slow ones only and blends between (Llama 3.1's release, https://github.com/meta-llama/llama-models). "yarn"
            does so by dimension, and multiplies the rotated heads by `attention_factor` (Peng et al. 2023,
            arXiv 2309.00071). "dynamic" raises the base for sequences longer than the original context, by their
            length (the same, section 3.2).
        factor: How many times longer the context is.
        low_freq_factor, high_freq_factor: llama3: wavelengths above `original / low` are slow, those below
            `original / high` fast.
        original_max_position_embeddings: llama3, yarn, dynamic: the context length before stretching.
        attention_factor: yarn: factor of the rotated queries and keys each.
        beta_fast, beta_slow: yarn: dimensions that turn more than `beta_fast` times in the original context are not
            divided, those that turn less than `beta_slow` times wholly.
        truncate: yarn: whether the bounds between these dimensions are rounded outwards.
    """

    kind: Scaling
    factor: float
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_max_position_embeddings: int = 8192
    attention_factor: float = 1.0
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    truncate: bool = True

    def __repr__(self) -> str:
        """Without the last four values where they are defaults: older fingerprints of models were made of such text."""
        older = len(fields(self)) - 4
        values = {spec.name: getattr(self, spec.name) for spec in fields(self)}
        shown = [
            spec.name for place, spec in enumerate(fields(self)) if place < older or values[spec.name] != spec.default
        ]
        return f"RopeScaling({', '.join(f'{name}={values[name]!r}' for name in shown)})"


def rotary_frequencies(head_dim: int, theta: float, scaling: RopeScaling | None = None) -> Tensor:
    """Radians per position of each pair of a head's dimensions: float32 [E / 2] (arXiv 2104.09864, section 3.2.2).

    Those of "dynamic" scaling are for sequences within the original context.
    """
    exponents = torch.arange(0, head_dim, 2, dtype=torch.int64).float() / head_dim
    frequencies = 1.0 / theta**exponents
    if scaling is None or scaling.kind == "dynamic":
        return frequencies
    if scaling.kind == "linear":
        return frequencies / scaling.factor
    kept = _kept_by_wavelength(frequencies, scaling) if scaling.kind == "llama3" else _kept(head_dim, theta, scaling)
    return (1 - kept) * frequencies / scaling.factor + kept * frequencies


def _kept_by_wavelength(frequencies: Tensor, scaling: RopeScaling) -> Tensor:
    """How much of each frequency llama3 leaves as it is, from 0 to 1."""
    wavelengths = 2 * math.pi / frequencies
    low, high = scaling.low_freq_factor, scaling.high_freq_factor
    return ((scaling.original_max_position_embeddings / wavelengths - low) / (high - low)).clamp(0, 1)


def _kept(head_dim: int, theta: float, scaling: RopeScaling) -> Tensor:
    """How much of each frequency yarn leaves as it is, from 0 to 1: one minus the ramp of its equation 23, which runs
    over the numbers of the pairs rather than over their turns, as in the published code.
    """

    def pair_that_turns(times: float) -> float:
        original = scaling.original_max_position_embeddings
        return head_dim * math.log(original / (times * 2 * math.pi)) / (2 * math.log(theta))

    first, last = pair_that_turns(scaling.beta_fast), pair_that_turns(scaling.beta_slow)
    if scaling.truncate:
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, head_dim - 1)
    width = last - first if first != last else 0.001
    return 1 - ((torch.arange(head_dim // 2, dtype=torch.float32) - first) / width).clamp(0, 1)


class Rotary(Positions):
    """Rotary embedding in the half-split layout: dimensions i and i + E / 2 are rotated as a pair."""

    def __init__(self, head_dim: int, theta: float, scaling: RopeScaling | None = None) -> None:
        super().__init__()
        self.head_dim, self.theta, self.scaling = head_dim, theta, scaling

    @cached_property
    def frequencies(self) -> Tensor:
        # Not a buffer: it is computed from the config, never loaded, and must have values on the meta device too.
        # Not before it is used: a damaged config may name a head of any size.
        return rotary_frequencies(self.head_dim, self.theta, self.scaling)

    def rotation(self, position_ids: Tensor, dtype: torch.dtype) -> Rotation:
        """Cosines and sines, [..., 1, E] each; the sine carries the minus sign of the half that is subtracted."""
        self.frequencies = self.frequencies.to(position_ids.device)
        angles = position_ids[..., None].float() * self._frequencies_of(position_ids)
        cos, sin = angles.cos(), angles.sin()  # [..., E/2], float32: bfloat16 loses far positions
        if self.scaling is not None and self.scaling.attention_factor != 1.0:
            cos, sin = cos * self.scaling.attention_factor, sin * self.scaling.attention_factor
        return torch.cat((cos, cos), -1)[..., None, :].to(dtype), torch.cat((-sin, sin), -1)[..., None, :].to(dtype)

    def _frequencies_of(self, position_ids: Tensor) -> Tensor:
        """The frequencies [E / 2], or, for rows that are longer than the context of "dynamic" scaling, [..., 1, E / 2].

        A row's own length decides, whatever stands beside it in the batch. (The published code takes the longest row
        of the batch, and keeps its frequencies for later batches.) With a cache, no sequence is longer.
        """
        if self.scaling is None or self.scaling.kind != "dynamic" or not position_ids.numel():
            return self.frequencies
        original, factor = self.scaling.original_max_position_embeddings, self.scaling.factor
        lengths = position_ids.amax(-1, keepdim=True)[..., None].double() + 1  # [..., 1, 1]
        stretched = (factor * lengths.clamp(min=original) / original - (factor - 1)).float()
        exponents = torch.arange(0, self.head_dim, 2, device=position_ids.device).float() / self.head_dim
        return 1.0 / (self.theta * stretched ** (self.head_dim / (self.head_dim - 2))) ** exponents

    def rotate(self, heads: Tensor, rotation: Rotation | None) -> Tensor:
        """(a, b) -> (a cos - b sin, b cos + a sin) for each pair of halves."""
        assert rotation is not None
        cos, sin = rotation
        return torch.addcmul(heads * cos, heads.roll(heads.shape[-1] // 2, -1), sin)


class Learned(Positions):
    """A learned vector for each position (Gehring et al. 2017, arXiv 1705.03122).

    Args:
        num_positions: The number of positions.
        hidden_size: D.
        offset: Rows of the table before position 0, which some families keep for padding.
    """

    def __init__(
        self, num_positions: int, hidden_size: int, offset: int = 0, device: torch.device | str | None = None
    ) -> None:
        super().__init__()
        self.table = embedding(num_positions + offset, hidden_size, device)
        self.offset = offset

    def embed(self, hidden_states: Tensor, position_ids: Tensor) -> Tensor:
        return hidden_states + self.table(position_ids + self.offset)


class Sinusoidal(Positions):
    """sin(p / 10000^(2i/D)), cos(p / 10000^(2i/D)) (arXiv 1706.03762, section 3.5).

    Args:
        hidden_size: D, even.
        layout: "interleaved": sine and cosine of a frequency side by side, as in the paper; "halves": all sines, then
            all cosines.
    """

    def __init__(self, hidden_size: int, layout: Literal["interleaved", "halves"]) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.interleaved = layout == "interleaved"

    @cached_property
    def frequencies(self) -> Tensor:
        # In double precision, as the published tables were computed: float32 is off by 1e-4 at a thousand positions.
        return 10_000.0 ** -(torch.arange(0, self.hidden_size, 2, dtype=torch.float64) / self.hidden_size)

    def embed(self, hidden_states: Tensor, position_ids: Tensor) -> Tensor:
        self.frequencies = self.frequencies.to(position_ids.device)
        angles = position_ids[..., None].double() * self.frequencies  # [..., D/2]
        waves = (angles.sin(), angles.cos())
        table = torch.stack(waves, -1).flatten(-2) if self.interleaved else torch.cat(waves, -1)
        return hidden_states + table.to(hidden_states.dtype)


class ALiBi(Positions):
    """Scores decrease linearly with distance, with a slope for each head (Press et al. 2021, arXiv 2108.12409).

    Where a token sees later ones, distance counts in both directions, as in MosaicML's models. The causal models'
    public code adds slope times the key's position instead, which differs by a constant in each row of the softmax.
    """

    def __init__(self, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads

    @cached_property
    def slopes(self) -> Tensor:
        return alibi_slopes(self.num_heads)

    def bias(self, query_positions: Tensor, key_positions: Tensor) -> Tensor:
        self.slopes = self.slopes.to(key_positions.device)
        distances = (key_positions[:, None, :] - query_positions[:, :, None]).abs()  # [B, T, S]
        return self.slopes[:, None, None] * -distances[:, None].float()  # [B, H, T, S]


def alibi_slopes(num_heads: int) -> Tensor:
    """The slopes [H]: 2^(-8/n), 2^(-16/n), ... for n heads, a power of two. Further heads have every second slope of
    twice as many heads.
    """
    power = 2 ** math.floor(math.log2(num_heads))
    slopes = [2 ** (-8 * (head + 1) / power) for head in range(power)]
    slopes += [2 ** (-4 * (head + 1) / power) for head in range(0, 2 * (num_heads - power), 2)]
    return torch.tensor(slopes)


class RelativeBuckets(Positions):
    """A learned bias for each head and bucket of distances, shared by all layers (T5, arXiv 1910.10683, section 2.1).

    Half of the buckets are exact distances, the other half grow logarithmically up to `max_distance`.

    Args:
        num_heads: H.
        bidirectional: Whether keys after the query have their own buckets; otherwise they share bucket 0.
    """

    def __init__(
        self,
        num_heads: int,
        *,
        num_buckets: int,
        max_distance: int,
        bidirectional: bool,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        self.table = embedding(num_buckets, num_heads, device)
        self.num_buckets = num_buckets
        self.max_distance = max_distance
        self.bidirectional = bidirectional

    def bias(self, query_positions: Tensor, key_positions: Tensor) -> Tensor:
        distances = key_positions[:, None, :] - query_positions[:, :, None]  # [B, T, S]
        return self.table(self.buckets(distances)).permute(0, 3, 1, 2)

    def buckets(self, distances: Tensor) -> Tensor:
        """Bucket of each distance, key minus query."""
        buckets, first = self.num_buckets, torch.zeros_like(distances)
        if self.bidirectional:
            buckets //= 2
            first = (distances > 0) * buckets
            distances = distances.abs()
        else:
            distances = (-distances).clamp(min=0)
        exact = buckets // 2
        ratio = distances.clamp(min=1).float().div(exact).log() / math.log(self.max_distance / exact)
        far = (exact + (ratio * (buckets - exact)).long()).clamp(max=buckets - 1)
        return first + torch.where(distances < exact, distances, far)
