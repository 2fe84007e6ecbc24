"""One config for every family: a family is a point on these axes, and `models/families/` holds the points."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from germinal.errors import SettingError
from germinal.layers.positions import RopeScaling

Stacks = Literal["decoder", "encoder", "encoder-decoder"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TransformerConfig:
    """What a Transformer is built from.

    Attributes:
        vocab_size: V.
        hidden_size: D.
        intermediate_size: Width inside the feed-forward network.
        num_layers: Blocks in each stack.
        num_heads: H, query heads.
        num_kv_heads: K, key-value heads; divides H. H: multi-head, 1: multi-query, between: grouped.
        head_dim: E; need not be D / H.
        max_position_embeddings: The context window, in tokens.
        stacks: Which stacks there are.
        norm: "rms" or "layer".
        norm_eps: Added under the root.
        norm_placement: "pre": before each sublayer, with a final norm.
        block: "sequential": attention, then feed-forward.
        positions: "rotary" or "none".
        rope_theta: The rotary base.
        rope_scaling: How the base is stretched, or None.
        activation: A name in `layers.feed_forward.ACTIVATIONS`.
        gated: Whether the feed-forward network has a gate.
        attention_bias: Biases of the query, key and value projections.
        attention_output_bias: Bias of the output projection.
        feed_forward_bias: Biases of the feed-forward network.
        attention_scale: Factor of the scores; None is E^-0.5.
        embedding_scale: Factor of the token embeddings.
        tie_embeddings: Whether the output matrix is the embedding.
        logit_scale: Factor of the logits.
    """

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    max_position_embeddings: int
    stacks: Stacks = "decoder"
    norm: str = "rms"
    norm_eps: float = 1e-5
    norm_placement: str = "pre"
    block: str = "sequential"
    positions: str = "rotary"
    rope_theta: float = 10_000.0
    rope_scaling: RopeScaling | None = None
    activation: str = "silu"
    gated: bool = True
    attention_bias: bool = False
    attention_output_bias: bool = False
    feed_forward_bias: bool = False
    attention_scale: float | None = None
    embedding_scale: float = 1.0
    tie_embeddings: bool = False
    logit_scale: float = 1.0

    def __post_init__(self) -> None:
        sizes = (
            "vocab_size",
            "hidden_size",
            "intermediate_size",
            "num_layers",
            "num_heads",
            "num_kv_heads",
            "head_dim",
        )
        for name in (*sizes, "max_position_embeddings"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise SettingError(f"must be a positive whole number, not {value!r}.", where=f"config.{name}")
        if self.num_heads % self.num_kv_heads:
            raise SettingError(
                f"{self.num_kv_heads} key-value heads do not divide {self.num_heads} query heads.",
                where="config.num_kv_heads",
            )
        if self.positions == "rotary" and self.head_dim % 2:
            raise SettingError(
                f"rotary positions turn pairs of dimensions, so a head's width must be even, not {self.head_dim}.",
                where="config.head_dim",
            )
