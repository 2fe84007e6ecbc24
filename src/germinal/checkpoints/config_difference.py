"""Checks that a file would be read back as the config that it is written for, and not as another model's."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

from germinal.errors import UnsupportedError
from germinal.models.config import TransformerConfig
from germinal.models.heads import VOCABULARY_HEADS

_POOLED = ("pooler", "sequence-classification")
_OF_HEADS = ("head", "pooler_activation")
_PRECISION = 1e-6
"""Relative: GGUF stores real numbers in float32."""


def refuse_difference(
    said: TransformerConfig, meant: TransformerConfig, *, form: str, hint_of_heads: str | None = None
) -> None:
    """Refuse to write a config that would be read back as another.

    Args:
        said: The config that is read back.
        meant: The config to write.
        form: The file, for the message.
        hint_of_heads: What to do if it is the head that cannot be expressed.

    Raises:
        UnsupportedError: they differ in a value that affects the network; the message names it and both values.
    """
    values = _effective_values(said)
    for name, value in _effective_values(meant).items():
        other = values.get(name)
        if not _same(value, other):
            raise UnsupportedError(
                f"{form} would be read back with {other!r}, not {value!r}.",
                where=f"config.{name}",
                hint=hint_of_heads if name in _OF_HEADS else None,
            )


def _same(value: Any, other: Any) -> bool:
    if isinstance(value, float) and isinstance(other, float):
        return math.isclose(value, other, rel_tol=_PRECISION)
    if isinstance(value, dict) and isinstance(other, dict):
        return value.keys() == other.keys() and all(_same(each, other[name]) for name, each in value.items())
    return bool(value == other)


def _effective_values(config: TransformerConfig) -> dict[str, Any]:
    """The values that affect the network, in a form in which equivalent configs are equal."""
    values = asdict(config)
    windowed = [config.is_windowed(layer) for layer in range(config.num_layers)]
    values["window"], values["windowed_layers"] = config.window if any(windowed) else None, windowed
    values["attention_scale"] = config.head_dim**-0.5 if config.attention_scale is None else config.attention_scale
    two_stacks = config.stacks == "encoder-decoder"
    values["num_encoder_layers"] = config.encoder_layers if two_stacks else None
    values["num_encoder_heads"] = (config.num_encoder_heads or config.num_heads) if two_stacks else None
    encoder_width = config.encoder_intermediate_size or config.intermediate_size
    values["encoder_intermediate_size"] = encoder_width if two_stacks else None
    values["head_activation"] = (config.head_activation or config.activation) if config.head == "masked-lm" else None
    base = config.rope_theta if config.windowed_rope_theta is None else config.windowed_rope_theta
    del values["windowed_rope_theta"]  # compared last, since a difference of the window says more
    values["windowed_rope_theta"] = base if any(windowed) else None
    unused = {
        "rotary": ("rope_theta", "rope_scaling", "windowed_rope_theta"),
        "relative": ("num_buckets", "max_distance"),
        "learned": ("position_offset", "uncounted_token"),
    }
    idle = [name for positions, names in unused.items() if positions != config.positions for name in names]
    idle += [] if config.head in VOCABULARY_HEADS else ["tie_embeddings", "logit_bias", "logit_scale"]
    idle += [] if config.head in _POOLED else ["pooler_activation"]
    return {name: value for name, value in values.items() if name not in idle}
