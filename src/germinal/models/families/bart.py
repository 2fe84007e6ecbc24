"""BART (Lewis et al. 2019, arXiv 1910.13461)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from germinal.layers.positions import Sinusoidal
from germinal.models.config import TransformerConfig
from germinal.models.families import tokenizers
from germinal.models.families.family import Family
from germinal.models.families.published import (
    activation,
    layer_rules,
    module_rules,
    published_activation,
)
from germinal.models.families.published_heads import head_to_hf, two_stack_head
from germinal.models.families.published_keys import PublishedKeys, maybe
from germinal.models.weight_rules import Squeeze, Table, WeightRule, WeightRules

DEFAULTS: dict[str, Any] = {
    "stacks": "encoder-decoder",
    "norm": "layer",
    "norm_placement": "post",
    "block": "sequential",
    "positions": "learned",
    "position_offset": 2,
    "activation": "gelu",
    "gated": False,
    "attention_bias": True,
    "attention_output_bias": True,
    "feed_forward_bias": True,
    "embedding_norm": True,
    "tie_embeddings": True,
    "logit_bias": True,
}

_LAYER_NAMES = {
    "self_attention.q_proj": "self_attn.q_proj",
    "self_attention.k_proj": "self_attn.k_proj",
    "self_attention.v_proj": "self_attn.v_proj",
    "self_attention.o_proj": "self_attn.out_proj",
    "attention_norm": "self_attn_layer_norm",
    "cross_attention.q_proj": "encoder_attn.q_proj",
    "cross_attention.k_proj": "encoder_attn.k_proj",
    "cross_attention.v_proj": "encoder_attn.v_proj",
    "cross_attention.o_proj": "encoder_attn.out_proj",
    "cross_attention_norm": "encoder_attn_layer_norm",
    "feed_forward.up_proj": "fc1",
    "feed_forward.down_proj": "fc2",
    "feed_forward_norm": "final_layer_norm",
}

CLASSIFIER_NAMES = {"head.dense": "classification_head.dense", "head.classifier": "classification_head.out_proj"}


SHARED: dict[str, Any] = {
    "vocab_size": 50_265,
    "max_position_embeddings": 1024,
    "encoder_layers": 12,
    "encoder_ffn_dim": 4096,
    "encoder_attention_heads": 16,
    "decoder_layers": 12,
    "decoder_ffn_dim": 4096,
    "decoder_attention_heads": 16,
    "activation_function": "gelu",
    "d_model": 1024,
    "scale_embedding": maybe(bool, False),
    "tie_word_embeddings": True,
}
"""The keys that BART and Marian have in common, with BART's defaults."""
NO_EFFECT = frozenset(
    {"dropout", "activation_dropout", "encoder_layerdrop", "decoder_layerdrop", "init_std", "is_decoder"}
)
ALIASES = {
    "num_attention_heads": "encoder_attention_heads",
    "hidden_size": "d_model",
    "num_hidden_layers": "encoder_layers",
}

KEYS = PublishedKeys(
    read=SHARED,
    no_effect=NO_EFFECT,
    tokens={"decoder_start_token_id": 2, "forced_eos_token_id": 2},
    aliases=ALIASES,
)


def sizes_from_hf(said: Mapping[str, Any]) -> dict[str, Any]:
    """The config values that BART and Marian have in common."""
    heads, hidden_size = said["decoder_attention_heads"], said["d_model"]
    others = {
        "num_encoder_heads": (said["encoder_attention_heads"], heads),
        "encoder_intermediate_size": (said["encoder_ffn_dim"], said["decoder_ffn_dim"]),
    }
    return {
        "vocab_size": said["vocab_size"],
        "hidden_size": hidden_size,
        "intermediate_size": said["decoder_ffn_dim"],
        "num_layers": said["decoder_layers"],
        "num_encoder_layers": said["encoder_layers"],
        "num_heads": heads,
        **{name: own for name, (own, decoder) in others.items() if own != decoder},
        "num_kv_heads": heads,
        "head_dim": hidden_size // heads,
        "max_position_embeddings": said["max_position_embeddings"],
        "activation": activation(said["activation_function"]),
        "embedding_scale": hidden_size**0.5 if said["scale_embedding"] else 1.0,
        "tie_embeddings": said["tie_word_embeddings"],
    }


def sizes_to_hf(config: TransformerConfig) -> dict[str, Any]:
    """The inverse of `sizes_from_hf`."""
    encoder = config.of_encoder()
    return {
        "is_encoder_decoder": True,
        "vocab_size": config.vocab_size,
        "d_model": config.hidden_size,
        "encoder_ffn_dim": encoder.intermediate_size,
        "decoder_ffn_dim": config.intermediate_size,
        "encoder_layers": encoder.num_layers,
        "decoder_layers": config.num_layers,
        "encoder_attention_heads": encoder.num_heads,
        "decoder_attention_heads": config.num_heads,
        "max_position_embeddings": config.max_position_embeddings,
        "activation_function": published_activation(config.activation),
        "scale_embedding": config.embedding_scale != 1.0,
        "tie_word_embeddings": config.tie_embeddings,
    }


def config_from_hf(hf: Mapping[str, Any]) -> TransformerConfig:
    """config.json of a BartForConditionalGeneration."""
    said = KEYS.values(hf)
    return TransformerConfig(**{**DEFAULTS, **sizes_from_hf(said), **two_stack_head(said, labels=3)})


def config_to_hf(config: TransformerConfig) -> dict[str, Any]:
    return {**head_to_hf(config, "Bart", FAMILY.architecture), "model_type": "bart", **sizes_to_hf(config)}


def hf_rules(config: TransformerConfig) -> WeightRules:
    """Names of transformers' Bart classes."""
    untied = not config.tie_embeddings  # then transformers 5 takes each stack's own table, and not the shared one
    shared = WeightRule("model.shared.weight", "embed_tokens.weight", fallback=untied, copied=untied)
    rules = [] if untied else [shared]
    unused = ["lm_head.*", "final_logits_bias", "classification_head.*", "qa_outputs.*"]
    for stack in ("encoder", "decoder"):
        unused.append(f"model.{stack}.version")
        rules.append(WeightRule(f"model.{stack}.embed_tokens.weight", "embed_tokens.weight", copied=untied))
        rules += layer_rules(f"model.{stack}.layers.{{i}}", f"{stack}.layers.{{i}}", _LAYER_NAMES)
        rules += module_rules({f"{stack}.embedding_norm": f"model.{stack}.layernorm_embedding"})
        if config.positions == "learned":
            rules.append(WeightRule(f"model.{stack}.embed_positions.weight", f"{stack}.positions.table.weight"))
    heads = [
        WeightRule("final_logits_bias", "logit_bias", Squeeze(), absent=0.0),
        WeightRule("lm_head.weight", "lm_head.weight"),
        *module_rules(CLASSIFIER_NAMES),
    ]
    rules += [*heads, shared] if untied else heads
    computed = {} if config.positions == "learned" else {name: _sinusoids(config) for name in _POSITION_TABLES}
    return WeightRules(rules, ignored=tuple(unused), prefix="model.", computed=computed)


_POSITION_TABLES = ("model.encoder.embed_positions.weight", "model.decoder.embed_positions.weight")


def _sinusoids(config: TransformerConfig) -> Table:
    def table(shape: tuple[int, ...]) -> Tensor | None:
        if shape[1:] != (config.hidden_size,):
            return None
        return Sinusoidal(config.hidden_size, "halves").embed(torch.zeros(shape), torch.arange(shape[0]))

    return table


FAMILY = Family(
    name="bart",
    paper="arXiv 1910.13461",
    defaults=DEFAULTS,
    model_types=("bart",),
    architecture="BartForConditionalGeneration",
    keys=KEYS,
    config_from_hf=config_from_hf,
    config_to_hf=config_to_hf,
    hf_rules=hf_rules,
    tokenizer=tokenizers.BYTE_LEVEL_SENTENCES,
)
