"""A family's GGUF format as data: metadata keys and tensor names, one table for both reading and writing.

A config that the table cannot express is detected by reading the metadata back, and is not written. Names and keys are
those of ggml's docs/gguf.md and the gguf package. What programs take for granted of an architecture, such as its
activation, comes from the family's defaults.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from germinal.errors import CheckpointError, UnsupportedError
from germinal.layers.positions import RopeScaling
from germinal.models.config import TransformerConfig
from germinal.models.families.gguf_keys import refuse_unread
from germinal.models.weight_rules import Transform, WeightRule, WeightRules

Metadata = Mapping[str, Any]
Tensors = Mapping[str, Tensor]

SIZES = {
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
    "block_count": "num_layers",
    "attention.head_count": "num_heads",
}
LAYER_NORM = {"attention.layer_norm_epsilon": "norm_eps"}
RMS_NORM = {"attention.layer_norm_rms_epsilon": "norm_eps"}
GROUPED = {"attention.head_count_kv": "num_kv_heads"}
HEAD_WIDTHS = {"attention.key_length": "head_dim", "attention.value_length": "head_dim"}
ROTARY = {"rope.dimension_count": "head_dim", "rope.freq_base": "rope_theta"}
SCALING = frozenset(
    {
        *("rope.scaling.type", "rope.scaling.factor", "rope.scale_linear", "rope.scaling.original_context_length"),
        *("rope.scaling.attn_factor", "rope.scaling.yarn_attn_factor", "rope.scaling.yarn_ext_factor"),
        *("rope.scaling.yarn_beta_fast", "rope.scaling.yarn_beta_slow"),
    }
)
"""The keys of `rotary_scaling`."""

_LEFT_OUT = frozenset(
    {
        *GROUPED,
        *HEAD_WIDTHS,
        *ROTARY,
        "decoder_block_count",
        "attention.relative_buckets_count",
        "rope.freq_base_swa",
    }
)
"""Keys that older files leave out; the value then follows from others, or is the family's default."""
_FLOATS = frozenset({"norm_eps", "rope_theta", "windowed_rope_theta"})


def _nothing(values: Metadata, metadata: Metadata, tensors: Tensors) -> dict[str, Any]:
    return {}


def _as_it_is(config: TransformerConfig) -> TransformerConfig:
    return config


def _nothing_more(config: TransformerConfig) -> dict[str, Any]:
    return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class GgufFormat:
    """The form of a family's models in GGUF files.

    Attributes:
        architecture: `general.architecture`, the prefix of every key of `keys`.
        keys: Metadata key -> config field. Several keys may hold the same value.
        rules: Tensor names.
        derive: Config values that depend on several keys or on tensors. Its arguments are the values of `keys`, the
            metadata without the prefix, and the tensors (the values of small ones, the shapes of all).
        derived: The keys that `derive` reads.
        describe: The inverse of `derive`: metadata without the prefix, beyond `keys`.
        extra_tensors: Tensors that hold a part of the config.
        written_as: An equivalent config, where GGUF can express only that one. If it is not tied and the model's is,
            the embedding is written as the output matrix.
        float32: Tensors of two dimensions that programs expect in float32.
    """

    architecture: str
    keys: Mapping[str, str]
    rules: Callable[[TransformerConfig], WeightRules]
    derive: Callable[[Metadata, Metadata, Tensors], dict[str, Any]] = _nothing
    derived: frozenset[str] = frozenset()
    describe: Callable[[TransformerConfig], dict[str, Any]] = _nothing_more
    extra_tensors: Callable[[TransformerConfig], dict[str, Tensor]] = _nothing_more
    written_as: Callable[[TransformerConfig], TransformerConfig] = _as_it_is
    float32: frozenset[str] = field(default=frozenset({"position_embd.weight", "token_types.weight"}))

    def values(self, metadata: Metadata, tensors: Tensors) -> dict[str, Any]:
        """The config values of a file.

        Raises:
            CheckpointError: a key or the embedding is missing.
            UnsupportedError: a kind of model that is not supported, or keys that differ where the network has one size.
        """
        own, prefix = self.own(metadata), f"{self.architecture}."
        if own.get("expert_count"):
            raise UnsupportedError("mixture-of-experts models cannot be loaded yet.", where=f"{prefix}expert_count")
        if "token_embd.weight" not in tensors:
            raise CheckpointError("has no tensor 'token_embd.weight'.", hint="The file is not a complete model.")
        values: dict[str, Any] = {"vocab_size": tensors["token_embd.weight"].shape[0]}
        for key, name in self.keys.items():
            if own.get(key) is None:
                if key in _LEFT_OUT:
                    continue
                raise CheckpointError(
                    f"has no '{prefix}{key}' in its metadata.", hint="The file is not a complete model."
                )
            value = _of_all_layers(own[key], f"{prefix}{key}")
            value = float(value) if name in _FLOATS else value
            if values.setdefault(name, value) != value:
                what = f"is {value}, but {name} is {values[name]} by another key, which is not supported."
                raise UnsupportedError(what, where=f"{prefix}{key}")
        if not isinstance(layers := own["block_count"], int) or layers > len(tensors):
            raise CheckpointError(
                f"is {layers!r}, but there are {len(tensors):,} tensors.", where=f"{prefix}block_count"
            )
        return values | self.derive(values, own, tensors)

    def own(self, metadata: Metadata) -> dict[str, Any]:
        """The architecture's metadata, without its prefix."""
        prefix = f"{self.architecture}."
        return {key.removeprefix(prefix): value for key, value in metadata.items() if key.startswith(prefix)}

    def refuse_unread(self, metadata: Metadata, config: TransformerConfig) -> None:
        """Refuse metadata that say something which the config does not; see `gguf_keys`."""
        refuse_unread(self.own(metadata), self.keys.keys() | self.derived, config, f"{self.architecture}.")

    def metadata(self, config: TransformerConfig) -> dict[str, Any]:
        """The metadata of a config: int for uint32, float for float32, bool, str, and lists of these."""
        found = {key: getattr(config, name) for key, name in self.keys.items()}
        found |= self.describe(config)
        return {f"{self.architecture}.{key}": value for key, value in found.items() if value is not None}


def _of_all_layers(value: Any, where: str) -> Any:
    """A value that may be listed for each layer.

    Raises:
        UnsupportedError: the layers differ.
    """
    if not isinstance(value, list) or not value:
        return value
    if value.count(value[0]) != len(value):
        raise UnsupportedError(f"differs from layer to layer: {value[:8]}.", where=where)
    return value[0]


def tied(values: Metadata, metadata: Metadata, tensors: Tensors) -> dict[str, Any]:
    """Whether the output matrix is tied: it is if the file has none."""
    return {"tie_embeddings": "output.weight" not in tensors}


def rotary_decoder(values: Metadata, metadata: Metadata, tensors: Tensors) -> dict[str, Any]:
    """The derived config values of a decoder with rotary positions."""
    return {
        **tied(values, metadata, tensors),
        "rope_scaling": rotary_scaling(metadata, values["max_position_embeddings"]),
        "attention_bias": "blk.0.attn_q.bias" in tensors,
    }


def rotary_scaling(metadata: Metadata, context_length: int) -> RopeScaling | None:
    """The scaling of rotary positions, from metadata without the architecture's prefix.

    As in llama.cpp, the type is linear unless there is one, and the factor may have its name of before November 2023.

    Raises:
        CheckpointError: a number is not positive.
        UnsupportedError: a kind that is not supported.
    """

    def number(name: str, default: float) -> float:
        value = metadata.get(name, default)
        if not isinstance(value, int | float) or not 0 < value < math.inf:
            raise CheckpointError(f"must be a positive number, not {value!r}.", where=name)
        return float(value)

    kind = metadata.get("rope.scaling.type", "linear")
    older = metadata.get("rope.scale_linear") or 1
    factor = number("rope.scaling.factor", older) if metadata.get("rope.scaling.factor", older) else 1.0
    attention = number("rope.scaling.attn_factor", 1)
    _refuse_other("rope.scaling.yarn_attn_factor", metadata, (1,))
    if kind == "yarn" and factor != 1:
        _refuse_other("rope.scaling.yarn_ext_factor", metadata, (1, -1))
        return RopeScaling(
            "yarn",
            factor,
            original_max_position_embeddings=int(number("rope.scaling.original_context_length", context_length)),
            attention_factor=attention * _usual_attention(factor),
            beta_fast=number("rope.scaling.yarn_beta_fast", 32),
            beta_slow=number("rope.scaling.yarn_beta_slow", 1),
        )
    if kind not in ("none", "linear", "yarn"):
        raise UnsupportedError(f"rope scaling '{kind}' is not supported.", hint="Known: none, linear, yarn, llama3.")
    if attention != 1:
        raise UnsupportedError("other than 1 is supported for yarn only.", where="rope.scaling.attn_factor")
    _refuse_other("rope.scaling.yarn_ext_factor", metadata, (0, -1, 1) if kind == "yarn" else (0, -1))
    return None if kind != "linear" or factor == 1 else RopeScaling("linear", factor)


def _usual_attention(factor: float) -> float:
    """yarn's factor of queries and keys, unless there is another (arXiv 2309.00071, equation 22)."""
    return 1 + 0.1 * math.log(max(factor, 1.0))


def _refuse_other(key: str, metadata: Metadata, known: tuple[float, ...]) -> None:
    if (value := metadata.get(key, known[0])) not in known:
        raise UnsupportedError(f"is {value!r}, which is not supported.", where=key)


def scaling_metadata(config: TransformerConfig) -> dict[str, Any]:
    """The inverse of `rotary_scaling`. llama3 is a tensor, and other kinds have no form."""
    scaling = config.rope_scaling
    if scaling is None or scaling.kind not in ("linear", "yarn"):
        return {}
    said: dict[str, Any] = {"rope.scaling.type": scaling.kind, "rope.scaling.factor": scaling.factor}
    if scaling.kind == "linear":
        return said
    return said | {
        "rope.scaling.original_context_length": scaling.original_max_position_embeddings,
        "rope.scaling.attn_factor": scaling.attention_factor / _usual_attention(scaling.factor),
        "rope.scaling.yarn_beta_fast": scaling.beta_fast,
        "rope.scaling.yarn_beta_slow": scaling.beta_slow,
    }


def tensor_rules(
    names: Mapping[str, str],
    layers: Mapping[str, str],
    transforms: Mapping[str, Transform] | None = None,
    stacks: Mapping[str, str] | None = None,
) -> list[WeightRule]:
    """Rules for weight and bias of each module.

    Args:
        names: Our modules outside the layers -> theirs.
        layers: Our modules in a layer -> theirs.
        transforms: Their modules in a layer -> transform, for those that have one.
        stacks: Our stack -> the prefix of its layers' names in the file.
    """
    rules = [
        WeightRule(f"{theirs}.{kind}", f"{ours}.{kind}")
        for ours, theirs in names.items()
        for kind in ("weight", "bias")
    ]
    for stack, prefix in (stacks or {"decoder": "blk"}).items():
        for ours, theirs in layers.items():
            transform = (transforms or {}).get(theirs, Transform())
            for kind in ("weight", "bias"):
                name = f"{stack}.layers.{{i}}.{ours}.{kind}"
                rules.append(WeightRule(f"{prefix}.{{i}}.{theirs}.{kind}", name, transform))
    return rules
