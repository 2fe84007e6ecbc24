"""LLaMA 1, 2 and 3 (arXiv 2302.13971, 2307.09288, 2407.21783) and models like them: SmolLM2 (arXiv 2502.02737)."""

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
from germinal.models.families.gguf_format import (
    GROUPED,
    HEAD_WIDTHS,
    RMS_NORM,
    ROTARY,
    SCALING,
    SIZES,
    GgufFormat,
    Metadata,
    Tensors,
    rotary_decoder,
    scaling_metadata,
    tensor_rules,
)
from germinal.models.families.published import (
    activation,
    layer_rules,
    module_rules,
    published_activation,
    usual_sizes,
)
from germinal.models.families.published_heads import decoder_head, head_to_hf
from germinal.models.families.published_keys import PublishedKeys, maybe
from germinal.models.families.rope import ROPE_KEYS, ROPE_ONLY, rope, rope_to_hf
from germinal.models.weight_rules import PermuteRotary, WeightRule, WeightRules

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

GGUF_NAMES = {"embed_tokens": "token_embd", "decoder.final_norm": "output_norm", "lm_head": "output"}
GGUF_LAYERS = {
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


SHARED: dict[str, Any] = {
    "vocab_size": 32_000,
    "hidden_size": 4096,
    "intermediate_size": 11_008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": maybe(int),
    "head_dim": maybe(int),
    "hidden_act": "silu",
    "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": False,
    **ROPE_KEYS,
}
"""The keys that LLaMA and the families derived from it have in common, with LLaMA's defaults."""
UNSUPPORTED: dict[str, Any] = {**ROPE_ONLY, "is_causal": True}
NO_EFFECT = frozenset({"is_decoder"})

KEYS = PublishedKeys(read={**SHARED, "attention_bias": False, "mlp_bias": False}, only=UNSUPPORTED, no_effect=NO_EFFECT)


def config_from_hf(hf: Mapping[str, Any]) -> TransformerConfig:
    """config.json of a LlamaForCausalLM."""
    said = KEYS.values(hf)
    biases = {
        "attention_bias": said["attention_bias"],
        "attention_output_bias": said["attention_bias"],
        "feed_forward_bias": said["mlp_bias"],
    }
    return TransformerConfig(**{**DEFAULTS, **shared_from_hf(said), **rope(said), **biases})


def config_to_hf(config: TransformerConfig) -> dict[str, Any]:
    """config.json that transformers 4 and 5 both read."""
    return {
        **head_to_hf(config, "Llama", FAMILY.architecture),
        "model_type": "llama",
        **shared_to_hf(config),
        **rope_to_hf(config.rope_theta, config.rope_scaling),
        "attention_bias": config.attention_bias,
        "mlp_bias": config.feed_forward_bias,
    }


def shared_from_hf(said: Mapping[str, Any]) -> dict[str, Any]:
    """The config values that LLaMA and the families derived from it have in common, but for rotary positions."""
    sizes = usual_sizes(said)
    return {
        **sizes,
        "num_kv_heads": sizes["num_kv_heads"] if said["num_key_value_heads"] is None else said["num_key_value_heads"],
        "head_dim": sizes["head_dim"] if said["head_dim"] is None else said["head_dim"],
        "max_position_embeddings": said["max_position_embeddings"],
        "norm_eps": said["rms_norm_eps"],
        "activation": activation(said["hidden_act"]),
        "tie_embeddings": said["tie_word_embeddings"],
        **decoder_head(said, tied=said["tie_word_embeddings"]),
    }


def shared_to_hf(config: TransformerConfig) -> dict[str, Any]:
    """The inverse of `shared_from_hf`."""
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
        "tie_word_embeddings": config.tie_embeddings,
    }


def hf_rules(config: TransformerConfig) -> WeightRules:
    """Names of transformers' LlamaForCausalLM."""
    return named(HF_NAMES)


def named(names: Mapping[str, str]) -> WeightRules:
    """The rules of a decoder whose layers have the modules `names`: ours -> theirs."""
    rules = [
        WeightRule("model.embed_tokens.weight", "embed_tokens.weight"),
        WeightRule("model.norm.weight", "decoder.final_norm.weight"),
        *layer_rules("model.layers.{i}", "decoder.layers.{i}", names),
    ]
    heads = [WeightRule("lm_head.weight", "lm_head.weight"), *module_rules({"head.classifier": "score"})]
    unused = ("lm_head.*", "score.*", "qa_outputs.*", "*rotary_emb.inv_freq")
    return WeightRules([*rules, *heads], ignored=unused, prefix="model.")


def gguf_rules(config: TransformerConfig) -> WeightRules:
    """Names of a GGUF file, whose rotary pairs are adjacent."""
    permuted = {"attn_q": PermuteRotary(config.num_heads), "attn_k": PermuteRotary(config.num_kv_heads)}
    return WeightRules(tensor_rules(GGUF_NAMES, GGUF_LAYERS, permuted), ignored=("rope_freqs.weight",))


def gguf_named(layers: Mapping[str, str]) -> WeightRules:
    """The rules of a decoder whose layers have the modules `layers`: ours -> theirs."""
    return WeightRules(tensor_rules(GGUF_NAMES, layers))


def _values_from_gguf(values: Metadata, metadata: Metadata, tensors: Tensors) -> dict[str, Any]:
    found = rotary_decoder(values, metadata, tensors)
    if "rope_freqs.weight" in tensors:
        if found["rope_scaling"] is not None:
            raise UnsupportedError(
                "divides the rotary frequencies, which rope.scaling.factor divides as well.", where="rope_freqs.weight"
            )
        head_dim = values.get("head_dim") or values["hidden_size"] // values["num_heads"]
        theta = values.get("rope_theta", 10_000.0)
        found["rope_scaling"] = _scaling_of(tensors["rope_freqs.weight"], head_dim, theta)
    found["attention_output_bias"] = "blk.0.attn_output.bias" in tensors
    found["feed_forward_bias"] = "blk.0.ffn_up.bias" in tensors
    return found


def _scaling_of(divisors: Tensor, head_dim: int, theta: float) -> RopeScaling | None:
    # Files store the divisor of each frequency, not the four numbers that it was computed from: those of Llama 3.x are
    # tried, and must give the stored divisors.
    if divisors.is_meta or 2 * divisors.numel() != head_dim:
        raise CheckpointError(
            f"must hold {head_dim // 2} float32 values, one for each pair of a head.", where="rope_freqs.weight"
        )
    if bool((divisors == 1).all()):
        return None
    scaling = RopeScaling("llama3", float(divisors.max()))
    if not torch.allclose(divisors, _divisors(head_dim, theta, scaling), rtol=1e-4):
        raise UnsupportedError("holds rotary divisors other than Llama 3's.", where="rope_freqs.weight")
    return scaling


def _divisors(head_dim: int, theta: float, scaling: RopeScaling) -> Tensor:
    return rotary_frequencies(head_dim, theta) / rotary_frequencies(head_dim, theta, scaling)


def _extra_tensors(config: TransformerConfig) -> dict[str, Tensor]:
    if config.rope_scaling is None or config.rope_scaling.kind != "llama3":
        return {}
    return {"rope_freqs.weight": _divisors(config.head_dim, config.rope_theta, config.rope_scaling)}


GGUF_KEYS = {**SIZES, **GROUPED, **HEAD_WIDTHS, **ROTARY, **RMS_NORM}
GGUF = GgufFormat(
    architecture="llama",
    keys=GGUF_KEYS,
    rules=gguf_rules,
    derive=_values_from_gguf,
    derived=SCALING,
    describe=scaling_metadata,
    extra_tensors=_extra_tensors,
)

FAMILY = Family(
    name="llama",
    paper="arXiv 2302.13971",
    defaults=DEFAULTS,
    model_types=("llama",),
    architecture="LlamaForCausalLM",
    keys=KEYS,
    config_from_hf=config_from_hf,
    config_to_hf=config_to_hf,
    hf_rules=hf_rules,
    tokenizer=tokenizers.PIECES_AFTER_START,
    gguf=GGUF,
)
