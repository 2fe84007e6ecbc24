"""LLaMA 1, 2 and 3 (arXiv 2302.13971, 2307.09288, 2407.21783), SmolLM2 (arXiv 2502.02737) and their like."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from germinal.errors import CheckpointError, UnsupportedError
from germinal.layers.positions import RopeScaling, rotary_frequencies
from germinal.models.config import TransformerConfig
from germinal.models.families import tokenizers
from germinal.models.families.family import Family
from germinal.models.families.published import (
    activation,
    layer_rules,
    published_activation,
    published_rope,
    required,
    rope,
)
from germinal.models.weight_rules import PermuteRotary, Transform, WeightRule, WeightRules

DEFAULTS: dict[str, Any] = {
    "stacks": "decoder",
    "norm": "rms",
    "norm_placement": "pre",
    "block": "sequential",
    "positions": "rotary",
    "activation": "silu",
    "gated": True,
}

HF_NAMES = {
    "attention_norm": "input_layernorm",
    "self_attention.q_proj": "self_attn.q_proj",
    "self_attention.k_proj": "self_attn.k_proj",
    "self_attention.v_proj": "self_attn.v_proj",
    "self_attention.o_proj": "self_attn.o_proj",
    "feed_forward_norm": "post_attention_layernorm",
    "feed_forward.gate_proj": "mlp.gate_proj",
    "feed_forward.up_proj": "mlp.up_proj",
    "feed_forward.down_proj": "mlp.down_proj",
}

_GGUF_NAMES = {
    "attention_norm": "attn_norm",
    "self_attention.q_proj": "attn_q",
    "self_attention.k_proj": "attn_k",
    "self_attention.v_proj": "attn_v",
    "self_attention.o_proj": "attn_output",
    "feed_forward_norm": "ffn_norm",
    "feed_forward.gate_proj": "ffn_gate",
    "feed_forward.up_proj": "ffn_up",
    "feed_forward.down_proj": "ffn_down",
}


def config_from_hf(hf: Mapping[str, Any]) -> TransformerConfig:
    """config.json of a LlamaForCausalLM."""
    biases = {
        "attention_bias": hf.get("attention_bias", False),
        "attention_output_bias": hf.get("attention_bias", False),
        "feed_forward_bias": hf.get("mlp_bias", False),
    }
    return TransformerConfig(**{**DEFAULTS, **sizes_from_hf(hf), **biases})


def config_to_hf(config: TransformerConfig) -> dict[str, Any]:
    """config.json that transformers 4 and 5 both read."""
    return {
        "architectures": [FAMILY.architecture],
        "model_type": "llama",
        **sizes_to_hf(config),
        "attention_bias": config.attention_bias,
        "mlp_bias": config.feed_forward_bias,
    }


def sizes_from_hf(hf: Mapping[str, Any]) -> dict[str, Any]:
    """What LLaMA and the families that grew out of it have in common."""
    heads = required(hf, "num_attention_heads")
    return {
        "vocab_size": required(hf, "vocab_size"),
        "hidden_size": required(hf, "hidden_size"),
        "intermediate_size": required(hf, "intermediate_size"),
        "num_layers": required(hf, "num_hidden_layers"),
        "num_heads": heads,
        "num_kv_heads": hf.get("num_key_value_heads") or heads,
        "head_dim": hf.get("head_dim") or hf["hidden_size"] // heads,
        "max_position_embeddings": hf.get("max_position_embeddings", 2048),
        "norm_eps": hf.get("rms_norm_eps", 1e-6),
        "activation": activation(hf.get("hidden_act", "silu")),
        "tie_embeddings": hf.get("tie_word_embeddings", False),
        **rope(hf),
    }


def sizes_to_hf(config: TransformerConfig) -> dict[str, Any]:
    """The inverse of `sizes_from_hf`, in transformers 4's spelling and 5's."""
    parameters = published_rope(config.rope_theta, config.rope_scaling)
    scaled = {key: value for key, value in parameters.items() if key != "rope_theta"}
    return {
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_kv_heads,
        "head_dim": config.head_dim,
        "max_position_embeddings": config.max_position_embeddings,
        "hidden_act": published_activation(config.activation),
        "rms_norm_eps": config.norm_eps,
        "rope_theta": config.rope_theta,
        "rope_scaling": None if config.rope_scaling is None else scaled,
        "rope_parameters": parameters,
        "tie_word_embeddings": config.tie_embeddings,
    }


def hf_rules(config: TransformerConfig) -> WeightRules:
    """Names of transformers' LlamaForCausalLM."""
    return named(HF_NAMES)


def named(names: Mapping[str, str]) -> WeightRules:
    """The rules of a decoder whose layers' modules are called `names`: ours -> theirs."""
    rules = [
        WeightRule("model.embed_tokens.weight", "embed_tokens.weight"),
        WeightRule("model.norm.weight", "decoder.final_norm.weight"),
        WeightRule("lm_head.weight", "lm_head.weight"),
        *layer_rules("model.layers.{i}", "decoder.layers.{i}", names),
    ]
    return WeightRules(rules, ignored=("model.layers.{i}.self_attn.rotary_emb.inv_freq", "model.rotary_emb.inv_freq"))


def config_from_gguf(metadata: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> TransformerConfig:
    """Metadata of a GGUF file whose `general.architecture` is "llama"."""

    def value(key: str, default: Any = None) -> Any:
        found = metadata.get(f"llama.{key}", default)
        if found is None:
            raise CheckpointError(f"has no 'llama.{key}' in its metadata.", hint="The file is not a complete LLaMA.")
        return found

    if metadata.get("llama.expert_count"):
        raise UnsupportedError("mixture-of-experts models cannot be loaded yet.", where="llama.expert_count")
    heads, hidden_size = value("attention.head_count"), value("embedding_length")
    head_dim = (
        metadata.get("llama.attention.key_length") or metadata.get("llama.rope.dimension_count") or hidden_size // heads
    )
    theta = float(metadata.get("llama.rope.freq_base", 10_000.0))
    return TransformerConfig(
        **DEFAULTS,
        vocab_size=tensors["token_embd.weight"].shape[0],
        hidden_size=hidden_size,
        intermediate_size=value("feed_forward_length"),
        num_layers=value("block_count"),
        num_heads=heads,
        num_kv_heads=metadata.get("llama.attention.head_count_kv", heads),
        head_dim=head_dim,
        max_position_embeddings=value("context_length"),
        norm_eps=value("attention.layer_norm_rms_epsilon"),
        rope_theta=theta,
        rope_scaling=_scaling_from_gguf(metadata, tensors, head_dim, theta),
        attention_bias="blk.0.attn_q.bias" in tensors,
        attention_output_bias="blk.0.attn_output.bias" in tensors,
        feed_forward_bias="blk.0.ffn_up.bias" in tensors,
        tie_embeddings="output.weight" not in tensors,
    )


def gguf_rules(config: TransformerConfig) -> WeightRules:
    """Names of a GGUF file; rotary pairs lie side by side there."""
    rules = [
        WeightRule("token_embd.weight", "embed_tokens.weight"),
        WeightRule("output_norm.weight", "decoder.final_norm.weight"),
        WeightRule("output.weight", "lm_head.weight"),
    ]
    permuted = {"attn_q": PermuteRotary(config.num_heads), "attn_k": PermuteRotary(config.num_kv_heads)}
    for ours, theirs in _GGUF_NAMES.items():
        transform = permuted.get(theirs, Transform())
        for kind in ("weight", "bias"):
            rules.append(WeightRule(f"blk.{{i}}.{theirs}.{kind}", f"decoder.layers.{{i}}.{ours}.{kind}", transform))
    return WeightRules(rules, ignored=("rope_freqs.weight",))


def _scaling_from_gguf(
    metadata: Mapping[str, Any], tensors: Mapping[str, Tensor], head_dim: int, theta: float
) -> RopeScaling | None:
    kind = metadata.get("llama.rope.scaling.type", "none")
    if kind == "linear":
        return RopeScaling("linear", float(metadata["llama.rope.scaling.factor"]))
    if kind != "none":
        raise UnsupportedError(f"rope scaling '{kind}' is not supported.", hint="Known: none, linear, llama3.")
    if "rope_freqs.weight" not in tensors:
        return None
    # The converter stores what each frequency is divided by, not the four numbers behind it: those that Llama 3.x was
    # released with are tried, and must give the stored divisors back.
    divisors = tensors["rope_freqs.weight"].float()
    scaling = RopeScaling("llama3", float(divisors.max()))
    expected = rotary_frequencies(head_dim, theta) / rotary_frequencies(head_dim, theta, scaling)
    if not torch.allclose(divisors, expected, rtol=1e-4):
        raise UnsupportedError("holds rotary divisors that are not Llama 3's.", where="rope_freqs.weight")
    return scaling


FAMILY = Family(
    name="llama",
    paper="arXiv 2302.13971",
    defaults=DEFAULTS,
    model_types=("llama",),
    architecture="LlamaForCausalLM",
    config_from_hf=config_from_hf,
    config_to_hf=config_to_hf,
    hf_rules=hf_rules,
    tokenizer=tokenizers.PIECES_AFTER_START,
    gguf_architectures=("llama",),
    config_from_gguf=config_from_gguf,
    gguf_rules=gguf_rules,
)
