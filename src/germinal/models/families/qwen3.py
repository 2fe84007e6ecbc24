"""Qwen3 (arXiv 2505.09388): LLaMA with normalised queries and keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from germinal.models.config import TransformerConfig
from germinal.models.families import llama, qwen2, tokenizers
from germinal.models.families.family import Family
from germinal.models.families.gguf_format import SCALING, GgufFormat, rotary_decoder, scaling_metadata
from germinal.models.families.published_heads import head_to_hf
from germinal.models.families.published_keys import PublishedKeys
from germinal.models.weight_rules import WeightRules

DEFAULTS: dict[str, Any] = {**llama.DEFAULTS, "head_norm": True}
HEAD_NORMS = {"self_attention.q_norm": "self_attn.q_norm", "self_attention.k_norm": "self_attn.k_norm"}
GGUF_HEAD_NORMS = {"self_attention.q_norm": "attn_q_norm", "self_attention.k_norm": "attn_k_norm"}


KEYS = PublishedKeys(
    read={**qwen2.SHARED, "head_dim": 128, "attention_bias": False}, only=llama.UNSUPPORTED, no_effect=llama.NO_EFFECT
)


def config_from_hf(hf: Mapping[str, Any]) -> TransformerConfig:
    """config.json of a Qwen3ForCausalLM."""
    said = KEYS.values(hf)
    biases = dict.fromkeys(("attention_bias", "attention_output_bias"), said["attention_bias"])
    return TransformerConfig(**{**DEFAULTS, **qwen2.shared_from_hf(said), **biases})


def config_to_hf(config: TransformerConfig) -> dict[str, Any]:
    return {
        **head_to_hf(config, "Qwen3", FAMILY.architecture),
        "model_type": "qwen3",
        **qwen2.shared_to_hf(config),
        "attention_bias": config.attention_bias,
    }


def hf_rules(config: TransformerConfig) -> WeightRules:
    """Names of transformers' Qwen3ForCausalLM."""
    return llama.named({**llama.HF_NAMES, **HEAD_NORMS})


def gguf_rules(config: TransformerConfig) -> WeightRules:
    """Names of a GGUF file, whose rotary pairs are half a head apart like ours."""
    return llama.gguf_named({**llama.GGUF_LAYERS, **GGUF_HEAD_NORMS})


FAMILY = Family(
    name="qwen3",
    paper="arXiv 2505.09388",
    defaults=DEFAULTS,
    model_types=("qwen3",),
    architecture="Qwen3ForCausalLM",
    keys=KEYS,
    config_from_hf=config_from_hf,
    config_to_hf=config_to_hf,
    hf_rules=hf_rules,
    tokenizer=tokenizers.BYTE_LEVEL_UNICODE,
    gguf=GgufFormat(
        architecture="qwen3",
        keys=llama.GGUF_KEYS,
        rules=gguf_rules,
        derive=rotary_decoder,
        derived=SCALING,
        describe=scaling_metadata,
    ),
)
