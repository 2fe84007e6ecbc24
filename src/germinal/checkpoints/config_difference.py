"""Whether two configs build networks that compute the same: what a file says of a config, and what was meant."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any, NamedTuple

from germinal.models.config import TransformerConfig
from germinal.models.heads import VOCABULARY_HEADS

_POOLED = ("pooler", "sequence-classification")
_PRECISION = 1e-6
"""Relative: files keep the real numbers of a config in float32."""


class Difference(NamedTuple):
    """A value of a config that is not the one that was meant."""

    name: str
    said: Any
    meant: Any


def difference(said: TransformerConfig, meant: TransformerConfig) -> Difference | None:
    """The first value in which two configs differ to their networks; None where they compute the same."""
    values = _telling(said)
    for name, value in _telling(meant).items():
        other = values.get(name)
        near = isinstance(value, float) and isinstance(other, float) and math.isclose(value, other, rel_tol=_PRECISION)
        if value != other and not near:
            return Difference(name, other, value)
    return None


def _telling(config: TransformerConfig) -> dict[str, Any]:
    """The values that make a difference to what the network computes, each said in one way."""
    values = asdict(config)
    windowed = [config.is_windowed(layer) for layer in range(config.num_layers)]
    values["window"], values["windowed_layers"] = config.window if any(windowed) else None, windowed
    values["attention_scale"] = config.head_dim**-0.5 if config.attention_scale is None else config.attention_scale
    values["num_encoder_layers"] = config.encoder_layers if config.stacks == "encoder-decoder" else None
    base = config.rope_theta if config.windowed_rope_theta is None else config.windowed_rope_theta
    del values["windowed_rope_theta"]  # told last: that there is a window says more
    values["windowed_rope_theta"] = base if any(windowed) else None
    unused = {
        "rotary": ("rope_theta", "rope_scaling", "windowed_rope_theta"),
        "relative": ("num_buckets", "max_distance"),
        "learned": ("position_offset",),
    }
    idle = [name for positions, names in unused.items() if positions != config.positions for name in names]
    idle += [] if config.head in VOCABULARY_HEADS else ["tie_embeddings", "logit_bias", "logit_scale"]
    idle += [] if config.head in _POOLED else ["pooler_activation"]
    return {name: value for name, value in values.items() if name not in idle}
