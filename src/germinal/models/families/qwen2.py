"""Qwen2 and Qwen2.5 (arXiv 2407.10671): LLaMA with biases in the query, key and value projections."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from germinal.models.config import TransformerConfig
from germinal.models.families import llama, tokenizers
from germinal.models.families.family import Family
from germinal.models.families.gguf_format import SCALING, GgufFormat, rotary_decoder, scaling_metadata
from germinal.models.families.published_heads import head_to_hf
from germinal.models.families.published_keys import PublishedKeys, from_zero, maybe
from germinal.models.families.rope import rope, rope_to_hf
from germinal.models.families.windows import WINDOWED, layer_types, windows_from_hf
from germinal.models.weight_rules import WeightRules

DEFAULTS: dict[str, Any] = {**llama.DEFAULTS, "attention_bias": True}


SHARED: dict[str, Any] = {
    **llama.SHARED,
    "vocab_size": 151_936,
    "intermediate_size": 22_016,
    "num_key_value_heads": maybe(int, 32),
    "max_position_embeddings": 32_768,
    "use_sliding_window": False,
    "sliding_window": maybe(int, 4096),
    "max_window_layers": from_zero(28),
    "layer_types": maybe(list),
}
"""The keys that Qwen2 and Qwen3 have in common."""
KEYS = PublishedKeys(read=SHARED, only=llama.UNSUPPORTED, no_effect=llama.NO_EFFECT)


def config_from_hf(hf: Mapping[str, Any]) -> TransformerConfig:
    """config.json of a Qwen2ForCausalLM."""
    return TransformerConfig(**{**DEFAULTS, **shared_from_hf(KEYS.values(hf))})


def shared_from_hf(said: Mapping[str, Any]) -> dict[str, Any]:
    """The config values that Qwen2 and Qwen3 have in common. By default the first layers have no window."""
    used = said["use_sliding_window"] and said["sliding_window"] is not None
    windows = windows_from_hf(said, used=used, windowed=lambda layer: layer >= said["max_window_layers"])
    return {**llama.shared_from_hf(said), **rope(said), **windows}


def shared_to_hf(config: TransformerConfig) -> dict[str, Any]:
    """The inverse of `shared_from_hf`. Programs from before `layer_types` know windows of the last layers only."""
    kinds = layer_types(config)
    return {
        **llama.shared_to_hf(config),
        **rope_to_hf(config.rope_theta, config.rope_scaling),
        "use_sliding_window": WINDOWED in kinds,
        "sliding_window": config.window,
        "max_window_layers": kinds.index(WINDOWED) if WINDOWED in kinds else config.num_layers,
        "layer_types": kinds,
    }


def config_to_hf(config: TransformerConfig) -> dict[str, Any]:
    return {**head_to_hf(config, "Qwen2", FAMILY.architecture), "model_type": "qwen2", **shared_to_hf(config)}


def gguf_rules(config: TransformerConfig) -> WeightRules:
    """Names of a GGUF file, whose rotary pairs are half a head apart like ours."""
    return llama.gguf_named(llama.GGUF_LAYERS)


FAMILY = Family(
    name="qwen2",
    paper="arXiv 2407.10671",
    defaults=DEFAULTS,
    model_types=("qwen2",),
    architecture="Qwen2ForCausalLM",
    keys=KEYS,
    config_from_hf=config_from_hf,
    config_to_hf=config_to_hf,
    hf_rules=llama.hf_rules,
    tokenizer=tokenizers.BYTE_LEVEL_UNICODE,
    gguf=GgufFormat(
        architecture="qwen2",
        keys=llama.GGUF_KEYS,
        rules=gguf_rules,
        derive=rotary_decoder,
        derived=SCALING,
        describe=scaling_metadata,
    ),
)
