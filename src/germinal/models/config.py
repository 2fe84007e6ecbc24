"""One config for every family: a family is a point on these axes, and `models/families/` holds the points."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import Field, astuple, dataclass, fields, replace
from numbers import Integral, Real
from typing import Any, Literal

from germinal.errors import SettingError
from germinal.layers.positions import SCALINGS, RopeScaling

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
        num_encoder_heads: Heads in the encoder of an encoder-decoder, which are as wide together as the decoder's; None
            is as many as the decoder has.
        encoder_intermediate_size: Width inside the encoder's feed-forward network; None is that of the decoder's.
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
        uncounted_token: "learned": the token that positions do not count, wherever it stands. It has the row of the
            table before position 0. None counts every token.
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
        attention_scale_by_layer: Whether the scores of layer i, counted from 1, are also divided by i.
        head_norm: Whether each query and key head is normalised.
        embedding_scale: Factor of the token embeddings.
        embedding_norm: Whether the embeddings are normalised.
        num_token_types: Segments that have an embedding; 0 is none.
        tie_embeddings: Whether the output matrix is the embedding.
        logit_scale: Factor of the logits.
        logit_bias: Whether the logits have a bias.
        head: What is on top of the stack: a name in `models.heads.HEADS`, or None for hidden states alone.
        head_activation: The activation inside a masked-language-model head; None is that of the blocks.
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
    num_encoder_heads: int | None = None
    encoder_intermediate_size: int | None = None
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
    uncounted_token: int | None = None
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
    attention_scale_by_layer: bool = False
    head_norm: bool = False
    embedding_scale: float = 1.0
    embedding_norm: bool = False
    num_token_types: int = 0
    tie_embeddings: bool = False
    logit_scale: float = 1.0
    logit_bias: bool = False
    head: str | None = "lm"
    head_activation: str | None = None
    num_labels: int = 0
    pooled_token: str = "first"
    pooler_activation: str | None = "tanh"

    def __post_init__(self) -> None:
        for field in fields(self):
            _check(field, getattr(self, field.name))
        if self.pooled_token not in ("first", "last"):
            raise SettingError(f"must be first or last, not {self.pooled_token!r}.", where="config.pooled_token")
        if self.num_heads % self.num_kv_heads:
            raise SettingError(
                f"{self.num_kv_heads} key-value heads do not divide {self.num_heads} query heads.",
                where="config.num_kv_heads",
            )
        self._check_encoder()
        if self.positions == "rotary":
            self._check_rotary()
        if self.positions == "relative":
            self._check_buckets()
        if self.uncounted_token is not None and not self.position_offset:
            raise SettingError("needs a row of the table before position 0.", where="config.uncounted_token")
        if self.windowed_layers is not None and len(self.windowed_layers) != self.num_layers:
            raise SettingError(
                f"{len(self.windowed_layers)} entries for {self.num_layers} layers.", where="config.windowed_layers"
            )

    def _check_encoder(self) -> None:
        if self.num_encoder_heads is None:
            return
        if self.num_heads * self.head_dim % self.num_encoder_heads or self.num_kv_heads != self.num_heads:
            raise SettingError(
                f"{self.num_encoder_heads} heads do not divide the width of {self.num_heads} heads without sharing.",
                where="config.num_encoder_heads",
            )

    def _check_rotary(self) -> None:
        if self.head_dim % 2:
            raise SettingError(
                f"rotary positions rotate pairs of dimensions, so that it must be even, not {self.head_dim}.",
                where="config.head_dim",
            )
        scaling = self.rope_scaling
        if scaling is None:
            return
        if not isinstance(scaling, RopeScaling) or scaling.kind not in SCALINGS:
            raise SettingError(f"is of no known kind: {scaling!r:.80}.", where="config.rope_scaling")
        if not all(math.isfinite(part) for part in astuple(scaling)[1:]):
            raise SettingError(f"holds a number that is not finite: {scaling}.", where="config.rope_scaling")
        lengths = (scaling.factor, scaling.original_max_position_embeddings, scaling.attention_factor)
        if min(*lengths, scaling.beta_fast, scaling.beta_slow) <= 0:
            raise SettingError(f"holds a number that is not positive: {scaling}.", where="config.rope_scaling")
        if scaling.kind == "llama3" and scaling.low_freq_factor == scaling.high_freq_factor:
            raise SettingError(f"its two frequency factors are the same: {scaling}.", where="config.rope_scaling")
        if scaling.kind == "yarn" and self.rope_theta == 1.0:
            raise SettingError("must not be 1, since yarn divides by its logarithm.", where="config.rope_theta")
        if scaling.kind == "dynamic" and self.head_dim == 2:
            raise SettingError("must be more than 2 where the rotary base is stretched.", where="config.head_dim")

    def _check_buckets(self) -> None:
        """Half of a direction's buckets are exact distances, the other half grow from there to `max_distance`."""
        if self.num_buckets < (2 if self.stacks == "decoder" else 4):
            raise SettingError(f"{self.num_buckets} are too few.", where="config.num_buckets")
        exact = self.num_buckets // (4 if self.stacks == "encoder" else 2)
        if self.max_distance <= exact:
            raise SettingError(
                f"must be more than {exact}, the distances that have buckets of their own, not {self.max_distance}.",
                where="config.max_distance",
            )

    @property
    def encoder_layers(self) -> int:
        """Blocks in the encoder of an encoder-decoder."""
        return self.num_layers if self.num_encoder_layers is None else self.num_encoder_layers

    def of_encoder(self) -> TransformerConfig:
        """The config that the encoder is built from: of an encoder-decoder, with the encoder's own sizes."""
        if self.stacks != "encoder-decoder":
            return self
        heads = self.num_encoder_heads or self.num_heads
        return replace(
            self,
            num_layers=self.encoder_layers,
            num_heads=heads,
            num_kv_heads=self.num_kv_heads if heads == self.num_heads else heads,
            head_dim=self.num_heads * self.head_dim // heads,
            intermediate_size=self.encoder_intermediate_size or self.intermediate_size,
            num_encoder_heads=None,
        )

    def is_windowed(self, layer: int) -> bool:
        """Whether a layer's attention is limited to the window."""
        return self.window is not None and (self.windowed_layers is None or self.windowed_layers[layer])


_MAY_BE_0 = ("position_offset", "uncounted_token", "num_token_types", "num_labels")
_LAYERS = ("num_layers", "num_encoder_layers")
_POSITIVE = ("rope_theta", "windowed_rope_theta", "embedding_scale", "logit_scale")
_LARGEST = 2**31 - 1
MOST_LAYERS = 10_000
"""More than any network has: what is said of each layer is written out."""


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
    most = MOST_LAYERS if name in _LAYERS else _LARGEST
    return None if int(value) <= most else f"at most {most:,}"


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
