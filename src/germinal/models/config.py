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
        num_layers: Blocks in the stack; of two stacks, in the decoder.
        num_encoder_layers: Blocks in the encoder of two stacks; None is as many as the decoder has.
        num_heads: H, query heads.
        num_kv_heads: K, key-value heads; divides H. H: multi-head, 1: multi-query, between: grouped.
        head_dim: E; need not be D / H.
        max_position_embeddings: The context window, in tokens.
        stacks: Which stacks there are.
        norm: A name in `layers.norms.NORMS`.
        norm_eps: Added under the root.
        norm_placement: "pre": before each sublayer, with a final norm; "post": after each addition; "sandwich": before
            and after each sublayer, with a final norm.
        block: "sequential": attention, then feed-forward; "parallel": both from the same input.
        positions: A name in `models.transformer.POSITIONS`.
        position_offset: "learned": rows of the table before position 0.
        positions_from_mask: Positions count real tokens only, where a mask tells.
        rope_theta: The rotary base.
        rope_scaling: How the base is stretched, or None.
        windowed_rope_theta: The rotary base of windowed layers; None is the same, and never stretched.
        num_buckets, max_distance: "relative": of the bias table.
        window: A windowed layer's token sees so many tokens back, itself included.
        windowed_layers: Which layers are windowed; None is all, where there is a window.
        activation: A name in `layers.feed_forward.ACTIVATIONS`.
        gated: Whether the feed-forward network has a gate.
        attention_bias: Biases of the query, key and value projections.
        attention_output_bias: Bias of the output projection.
        feed_forward_bias: Biases of the feed-forward network.
        attention_scale: Factor of the scores; None is E^-0.5.
        head_norm: Whether each query and key head is normalised.
        embedding_scale: Factor of the token embeddings.
        embedding_norm: Whether the embeddings are normalised.
        num_token_types: Segments that have an embedding; 0 is none.
        tie_embeddings: Whether the output matrix is the embedding.
        logit_scale: Factor of the logits.
        logit_bias: Whether the logits have a bias.
        head: What stands on the stack: a name in `models.heads.HEADS`, or None for hidden states alone.
        num_labels: Classes of a classifying head.
        pooler_activation: Between the two layers of a head that looks at the first token.
    """

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_encoder_layers: int | None = None
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
    position_offset: int = 0
    positions_from_mask: bool = False
    rope_theta: float = 10_000.0
    rope_scaling: RopeScaling | None = None
    windowed_rope_theta: float | None = None
    num_buckets: int = 32
    max_distance: int = 128
    window: int | None = None
    windowed_layers: tuple[bool, ...] | None = None
    activation: str = "silu"
    gated: bool = True
    attention_bias: bool = False
    attention_output_bias: bool = False
    feed_forward_bias: bool = False
    attention_scale: float | None = None
    head_norm: bool = False
    embedding_scale: float = 1.0
    embedding_norm: bool = False
    num_token_types: int = 0
    tie_embeddings: bool = False
    logit_scale: float = 1.0
    logit_bias: bool = False
    head: str | None = "lm"
    num_labels: int = 0
    pooler_activation: str = "tanh"

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
        if self.windowed_layers is not None and len(self.windowed_layers) != self.num_layers:
            raise SettingError(
                f"{len(self.windowed_layers)} entries for {self.num_layers} layers.", where="config.windowed_layers"
            )

    @property
    def encoder_layers(self) -> int:
        """Blocks of the encoder, where there is one."""
        return self.num_layers if self.num_encoder_layers is None else self.num_encoder_layers

    def is_windowed(self, layer: int) -> bool:
        """Whether a layer's attention is limited to the window."""
        return self.window is not None and (self.windowed_layers is None or self.windowed_layers[layer])
