"""Qwen2 and Qwen2.5 (arXiv 2407.10671): LLaMA with biases in the query, key and value projections."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from germinal.models.config import TransformerConfig
from germinal.models.families import llama, tokenizers
from germinal.models.families.family import Family
from germinal.models.families.gguf_format import SCALING, GgufFormat, rotary_decoder, scaling_metadata
from germinal.models.families.published_heads import head_to_hf
from germinal.models.families.windows import windows_from_hf, windows_to_hf
from germinal.models.weight_rules import WeightRules

DEFAULTS: dict[str, Any] = {**llama.DEFAULTS, "attention_bias": True}


def config_from_hf(hf: Mapping[str, Any]) -> TransformerConfig:
    """config.json of a Qwen2ForCausalLM."""
    return TransformerConfig(**{**DEFAULTS, **llama.sizes_from_hf(hf), **windows_from_hf(hf)})


def config_to_hf(config: TransformerConfig) -> dict[str, Any]:
    return {
        **head_to_hf(config, "Qwen2", FAMILY.architecture),
        "model_type": "qwen2",
        **llama.sizes_to_hf(config),
        **windows_to_hf(config),
        "use_sliding_window": config.window is not None,
    }


def gguf_rules(config: TransformerConfig) -> WeightRules:
    """Names of a GGUF file, whose rotary pairs are half a head apart like ours."""
    return llama.gguf_named(llama.GGUF_LAYERS)


FAMILY = Family(
    name="qwen2",
    paper="arXiv 2407.10671",
    defaults=DEFAULTS,
    model_types=("qwen2",),
    architecture="Qwen2ForCausalLM",
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
