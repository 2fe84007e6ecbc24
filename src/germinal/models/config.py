"""One config for every family: a family is a point on these axes, and `models/families/` holds the points."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import Field, astuple, dataclass, fields
from numbers import Integral, Real
from typing import Any, Literal

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
        num_layers: Blocks in the stack; of an encoder-decoder, in the decoder.
        num_encoder_layers: Blocks in the encoder of an encoder-decoder; None is as many as the decoder has.
        num_heads: H, query heads.
        num_kv_heads: K, key-value heads; divides H. H: multi-head, 1: multi-query, between: grouped.
        head_dim: E; need not be D / H.
        max_position_embeddings: The context window, in tokens.
        stacks: Which stacks there are.
        norm: A name in `layers.norms.NORMS`.
        norm_eps: The epsilon under the square root.
        norm_placement: "pre": before each sublayer, with a final norm; "post": after each addition; "sandwich": before
            and after each sublayer, with a final norm.
        block: "sequential": attention, then feed-forward; "parallel": both from the same input.
        positions: A name in `models.transformer.POSITIONS`.
        position_offset: "learned": rows of the table before position 0.
        positions_from_mask: Whether positions count real tokens only, where there is an attention mask.
        rope_theta: The rotary base.
        rope_scaling: How the base is stretched, or None.
        windowed_rope_theta: The rotary base of windowed layers, never stretched; None is that of the other layers.
        num_buckets, max_distance: "relative": of the bias table.
        window: How many tokens a token of a windowed layer sees, back from and including itself.
        windowed_layers: Which layers are windowed; None is all, if there is a window.
        activation: A name in `layers.activations.ACTIVATIONS`.
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
        head: What is on top of the stack: a name in `models.heads.HEADS`, or None for hidden states alone.
        num_labels: Classes of a classification head.
        pooled_token: The token whose state a head for whole sequences uses, "first" or "last".
        pooler_activation: The activation after the dense layer of such a head; None is a head without that layer and
            without biases.
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
    pooled_token: str = "first"
    pooler_activation: str | None = "tanh"

    def __post_init__(self) -> None:
        for field in fields(self):
            _check(field, getattr(self, field.name))
        if self.pooled_token not in ("first", "last"):
            raise SettingError(f"must be first or last, not {self.pooled_token!r}.", where="config.pooled_token")
        if self.rope_scaling is not None and not all(math.isfinite(part) for part in astuple(self.rope_scaling)[1:]):
            raise SettingError(f"holds a number that is not finite: {self.rope_scaling}.", where="config.rope_scaling")
        if self.num_heads % self.num_kv_heads:
            raise SettingError(
                f"{self.num_kv_heads} key-value heads do not divide {self.num_heads} query heads.",
                where="config.num_kv_heads",
            )
        if self.positions == "rotary" and self.head_dim % 2:
            raise SettingError(
                f"rotary positions rotate pairs of dimensions, so that it must be even, not {self.head_dim}.",
                where="config.head_dim",
            )
        if self.windowed_layers is not None and len(self.windowed_layers) != self.num_layers:
            raise SettingError(
                f"{len(self.windowed_layers)} entries for {self.num_layers} layers.", where="config.windowed_layers"
            )

    @property
    def encoder_layers(self) -> int:
        """Blocks in the encoder of an encoder-decoder."""
        return self.num_layers if self.num_encoder_layers is None else self.num_encoder_layers

    def is_windowed(self, layer: int) -> bool:
        """Whether a layer's attention is limited to the window."""
        return self.window is not None and (self.windowed_layers is None or self.windowed_layers[layer])


_MAY_BE_0 = ("position_offset", "num_token_types", "num_labels")
_POSITIVE = ("rope_theta", "windowed_rope_theta", "embedding_scale", "logit_scale")
_LARGEST = 2**31 - 1


def _check(field: Field[Any], value: Any) -> None:
    """Refuse a value of the wrong type or range, such as a damaged file may hold."""
    kinds = str(field.type).split(" | ")
    if value is None and "None" in kinds:
        return
    problem = next((problem(field.name, value) for kind, problem in _PROBLEMS.items() if kind in kinds), None)
    if problem is not None:
        raise SettingError(f"must be {problem}, not {value!r}.", where=f"config.{field.name}")


def _problem_of_whole(name: str, value: Any) -> str | None:
    least = 0 if name in _MAY_BE_0 else 1
    if type(value) is bool or not isinstance(value, Integral) or int(value) < least:
        return "a positive whole number" if least else "a whole number from 0"
    return None if int(value) <= _LARGEST else f"at most {_LARGEST:,}"


def _problem_of_real(name: str, value: Any) -> str | None:
    if type(value) is bool or not isinstance(value, Real) or not math.isfinite(value):
        return "a finite number"
    if name in _POSITIVE and float(value) <= 0:
        return "a positive number"
    return "at least 0" if name == "norm_eps" and float(value) < 0 else None


_PROBLEMS: dict[str, Callable[[str, Any], str | None]] = {
    "int": _problem_of_whole,
    "float": _problem_of_real,
    "bool": lambda name, value: None if isinstance(value, bool) else "true or false",
    "str": lambda name, value: None if isinstance(value, str) else "a name",
}
