"""Gemma 3's text models (arXiv 2503.19786)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from germinal.models.config import TransformerConfig
from germinal.models.families import llama, tokenizers
from germinal.models.families.family import Family, root_of_width
from germinal.models.families.gguf_format import (
    SCALING,
    GgufFormat,
    Metadata,
    Tensors,
    rotary_decoder,
    scaling_metadata,
    tensor_rules,
)
from germinal.models.families.published import activation, published_activation, published_rope, refuse, rope
from germinal.models.families.published_heads import decoder_head, head_to_hf
from germinal.models.families.qwen3 import GGUF_HEAD_NORMS, HEAD_NORMS
from germinal.models.families.windows import windows_from_hf, windows_to_hf
from germinal.models.weight_rules import Shift, WeightRule, WeightRules

DEFAULTS: dict[str, Any] = {
    **llama.DEFAULTS,
    "norm": "rms_offset",
    "norm_eps": 1e-6,
    "norm_placement": "sandwich",
    "activation": "gelu_tanh",
    "head_norm": True,
    "rope_theta": 1_000_000.0,
    "windowed_rope_theta": 10_000.0,
    "embedding_scale": root_of_width,
    "tie_embeddings": True,
}

_NAMES = {
    **llama.HF_NAMES,
    **HEAD_NORMS,
    "attention_output_norm": "post_attention_layernorm",
    "feed_forward_norm": "pre_feedforward_layernorm",
    "feed_forward_output_norm": "post_feedforward_layernorm",
}


def config_from_hf(hf: Mapping[str, Any]) -> TransformerConfig:
    """config.json of a Gemma3ForCausalLM, with the keys of transformers 4 (`rope_local_base_freq`) or 5."""
    refuse(hf, final_logit_softcapping=None, attn_logit_softcapping=None, use_bidirectional_attention=False)
    by_kind = hf.get("rope_parameters") or {}
    whole = {"rope_parameters": by_kind["full_attention"]} if "full_attention" in by_kind else hf
    local = by_kind.get("sliding_attention", {}).get("rope_theta") or hf.get("rope_local_base_freq", 10_000.0)
    own = {
        **rope({"rope_theta": 1_000_000.0, **whole}),
        "windowed_rope_theta": float(local),
        "activation": activation(hf.get("hidden_activation") or "gelu_pytorch_tanh"),
        "attention_bias": hf.get("attention_bias", False),
        "attention_output_bias": hf.get("attention_bias", False),
        "attention_scale": hf.get("query_pre_attn_scalar", 256) ** -0.5,
        "embedding_scale": hf["hidden_size"] ** 0.5,
        "tie_embeddings": hf.get("tie_word_embeddings", True),
        **decoder_head(hf, tied=hf.get("tie_word_embeddings", True)),
    }
    return TransformerConfig(
        **{**DEFAULTS, **llama.sizes_from_hf({**hf, "rope_parameters": None}), **windows_from_hf(hf), **own}
    )


def config_to_hf(config: TransformerConfig) -> dict[str, Any]:
    published = llama.sizes_to_hf(config)
    for key in ("hidden_act", "rope_theta", "rope_scaling"):
        del published[key]
    scale = config.head_dim**-0.5 if config.attention_scale is None else config.attention_scale
    assert config.windowed_rope_theta is not None
    return {
        **head_to_hf(config, "Gemma3Text", FAMILY.architecture),
        "model_type": "gemma3_text",
        **published,
        **windows_to_hf(config),
        "rope_parameters": {
            "full_attention": published_rope(config.rope_theta, config.rope_scaling),
            "sliding_attention": published_rope(config.windowed_rope_theta, None),
        },
        "hidden_activation": published_activation(config.activation),
        "attention_bias": config.attention_bias,
        "query_pre_attn_scalar": round(scale**-2),
    }


def hf_rules(config: TransformerConfig) -> WeightRules:
    """Names of transformers' Gemma3ForCausalLM."""
    return llama.named(_NAMES)


def gguf_rules(config: TransformerConfig) -> WeightRules:
    """Names of a GGUF file, which stores the norms' weights with 1 added."""
    names = {
        **llama.GGUF_LAYERS,
        **GGUF_HEAD_NORMS,
        "attention_output_norm": "post_attention_norm",
        "feed_forward_output_norm": "post_ffw_norm",
    }
    norms = {theirs: Shift(1.0) for theirs in names.values() if theirs.endswith("norm")}
    whole = WeightRule("output_norm.weight", "decoder.final_norm.weight", Shift(1.0))
    return WeightRules([whole, *tensor_rules(llama.GGUF_NAMES, names, norms)])


def _values_from_gguf(values: Metadata, metadata: Metadata, tensors: Tensors) -> dict[str, Any]:
    """Every sixth layer is not windowed, unless a list says which; the largest model has its own attention scale."""
    found = {"rope_theta": 10_000.0, **values, **rotary_decoder(values, metadata, tensors)}  # llama.cpp's, unless given
    if window := metadata.get("attention.sliding_window"):
        pattern = metadata.get("attention.sliding_window_pattern", 6)
        if isinstance(pattern, int):
            pattern = [pattern == 0 or layer % pattern < pattern - 1 for layer in range(values["num_layers"])]
        found |= {"window": window, "windowed_layers": tuple(map(bool, pattern))}
    if values["num_layers"] == 62:
        found["attention_scale"] = (values["hidden_size"] // values["num_heads"]) ** -0.5
    return found


def _describe(config: TransformerConfig) -> dict[str, Any]:
    windowed = [config.is_windowed(layer) for layer in range(config.num_layers)]
    if not any(windowed):
        return scaling_metadata(config)
    said: dict[str, Any] = {"attention.sliding_window": config.window}
    if windowed != [layer % 6 < 5 for layer in range(config.num_layers)]:
        said["attention.sliding_window_pattern"] = windowed
    return said | scaling_metadata(config)


FAMILY = Family(
    name="gemma3",
    paper="arXiv 2503.19786",
    defaults=DEFAULTS,
    model_types=("gemma3_text",),
    architecture="Gemma3ForCausalLM",
    config_from_hf=config_from_hf,
    config_to_hf=config_to_hf,
    hf_rules=hf_rules,
    tokenizer=tokenizers.PIECES_AFTER_BOS,
    gguf=GgufFormat(
        architecture="gemma3",
        keys={**llama.GGUF_KEYS, "rope.freq_base_swa": "windowed_rope_theta"},
        rules=gguf_rules,
        derive=_values_from_gguf,
        derived=SCALING | {"attention.sliding_window", "attention.sliding_window_pattern"},
        describe=_describe,
    ),
)
