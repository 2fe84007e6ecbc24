"""The keys of a GGUF architecture beyond those that its family reads: each has no effect, or must say nothing new.

Names are those of the gguf package (`gguf.constants.Keys`) without the architecture's prefix; what each does is taken
from llama.cpp (src/llama-model.cpp and src/models). A key that is in no table here is refused, since nothing is known
of what it does.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Set
from typing import Any

from germinal.errors import UnsupportedError
from germinal.models.config import TransformerConfig

READ_ELSEWHERE = frozenset({"expert_count", "pooling_type", "classifier.output_labels", "decoder_start_token_id"})
"""Read for every architecture: experts are refused, the others are not the network's."""

WITHOUT_EFFECT = re.compile(
    r"tensor_data_layout|vocab_size|rope\.scaling\.finetuned"
    # The epsilon of a norm that the architecture does not have.
    r"|attention\.(layer_norm_epsilon|layer_norm_rms_epsilon|group_norm_epsilon|group_norm_groups)"
    # Of experts, of which there are none.
    r"|leading_dense_block_count|expert_.*|experts_per_group|moe_.*|interleave_moe_layer_step|router_logit_softcapping"
    r"|swiglu_clamp_(exp|shexp)"
)
_OF_ROTATION = re.compile(r"rope\..*")
_OF_WINDOWS = re.compile(r"attention\.sliding_window_pattern|.*_swa")
_OF_BUCKETS = re.compile(r"attention\.relative_buckets_count")

SAME = {
    "embedding_length_out": "hidden_size",
    "attention.head_count_kv": "num_kv_heads",
    "attention.key_length": "head_dim",
    "attention.value_length": "head_dim",
    "attention.key_length_swa": "head_dim",
    "attention.value_length_swa": "head_dim",
    "rope.dimension_count": "head_dim",
    "rope.dimension_count_swa": "head_dim",
    "decoder_block_count": "num_layers",
}
"""Key -> the value of the config that it repeats."""
SCALES = {"logit_scale": "logit_scale", "embedding_scale": "embedding_scale"}
"""Key -> the factor of the config that it repeats; 0 stands for none."""

OFF = re.compile(
    r"use_parallel_residual|features_length|nextn_predict_layers|n_deepstack_layers|(attn|final)_logit_softcapping"
    r"|swin_norm|rescale_every_n_layers|time_(mix|decay)_extra_dim|token_shift_count|full_attention_interval"
    r"|activation_sparsity_scale|altup\..*|embedding_length_per_layer_input|.*_feat_(in|out)"
    r"|attention\.(max_alibi_bias|clamp_kqv|.*_lora_rank|temperature_length|temperature_scale|shared_kv_layers"
    r"|key_length_mla|value_length_mla|indexer\..*)"
    r"|rope\.dimension_sections|(ssm|kda|wkv|posnet|convnext|shortconv)\..*"
)
"""What the network has not: these must be 0, false or empty."""
_OTHERS = frozenset(
    {"attention.causal", "attention.scale", "attention.sliding_window", "residual_scale", "attention.output_scale"}
)


def is_known(key: str) -> bool:
    """Whether it is known what a key does, which no family needs to read."""
    if key in READ_ELSEWHERE or key in SAME or key in SCALES or key in _OTHERS:
        return True
    return any(table.fullmatch(key) for table in (WITHOUT_EFFECT, OFF, _OF_ROTATION, _OF_WINDOWS, _OF_BUCKETS))


def refuse_unread(metadata: Mapping[str, Any], read: Set[str], config: TransformerConfig, prefix: str) -> None:
    """Refuse keys that say something which the config does not.

    Args:
        metadata: The architecture's keys, without its prefix.
        read: Those that the config was made from.
        config: The config.
        prefix: The architecture's, for messages.

    Raises:
        UnsupportedError: names the key and its value.
    """
    for key, value in metadata.items():
        if key in read or key in READ_ELSEWHERE or _idle(key, config):
            continue
        if not is_known(key):
            raise UnsupportedError(
                "is unknown, and may change what the model does.",
                where=f"{prefix}{key}",
                hint="If it has no effect, remove it with the gguf package's gguf_new_metadata.py --remove-metadata.",
            )
        if not _says_nothing_new(key, value, config):
            raise UnsupportedError(f"is {value!r}, which is not supported.", where=f"{prefix}{key}")


def _idle(key: str, config: TransformerConfig) -> bool:
    """Whether a key has no effect in a network of this config."""
    return bool(
        WITHOUT_EFFECT.fullmatch(key)
        or (config.positions != "rotary" and _OF_ROTATION.fullmatch(key))
        or (config.window is None and _OF_WINDOWS.fullmatch(key))
        or (config.positions != "relative" and _OF_BUCKETS.fullmatch(key))
    )


def _says_nothing_new(key: str, value: Any, config: TransformerConfig) -> bool:
    if key == "attention.causal":
        return value is (config.stacks != "encoder")
    if key in SAME:
        return _equal(value, getattr(config, SAME[key]))
    if not (any(value) if isinstance(value, list) else value):
        return True
    if key in SCALES:
        return _equal(value, getattr(config, SCALES[key]))
    if key == "attention.scale":
        return _equal(value, config.head_dim**-0.5 if config.attention_scale is None else config.attention_scale)
    if key == "attention.sliding_window":
        return isinstance(value, int) and value >= config.max_position_embeddings
    return key in ("residual_scale", "attention.output_scale") and _equal(value, 1)


def _equal(value: Any, expected: float) -> bool:
    if isinstance(value, list):
        return all(_equal(each, expected) for each in value)
    return isinstance(value, int | float) and math.isclose(value, expected, rel_tol=1e-6)
