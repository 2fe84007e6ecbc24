"""BLOOM (BigScience 2022, arXiv 2211.05100)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from germinal.errors import UnsupportedError
from germinal.models.config import TransformerConfig
from germinal.models.families import llama
from germinal.models.families.family import Family
from germinal.models.families.gguf_format import (
    GROUPED,
    LAYER_NORM,
    SIZES,
    GgufFormat,
    tensor_rules,
    tied,
)
from germinal.models.families.gpt2 import UNUSED_HEADS, classifier_rules
from germinal.models.families.published import fused_qkv, layer_rules
from germinal.models.families.published_heads import decoder_head, head_to_hf
from germinal.models.families.published_keys import WHERE, PublishedKeys, maybe
from germinal.models.weight_rules import WeightRule, WeightRules

DEFAULTS: dict[str, Any] = {
    "stacks": "decoder",
    "norm": "layer",
    "norm_placement": "pre",
    "block": "sequential",
    "positions": "alibi",
    "positions_from_mask": True,
    "activation": "gelu_tanh",
    "gated": False,
    "attention_bias": True,
    "attention_output_bias": True,
    "feed_forward_bias": True,
    "embedding_norm": True,
    "tie_embeddings": True,
}


KEYS = PublishedKeys(
    read={
        "vocab_size": 250_880,
        "hidden_size": 64,
        "n_embed": maybe(int),
        "n_layer": 2,
        "n_head": 8,
        "seq_length": 2048,
        "layer_norm_epsilon": 1e-5,
        "tie_word_embeddings": True,
        "slow_but_exact": False,
        "pretraining_tp": 1,
    },
    only={"apply_residual_connection_post_layernorm": False, "is_causal": True},
    no_effect=frozenset({"is_decoder", "hidden_dropout"}),
    aliases={"num_hidden_layers": "n_layer", "num_attention_heads": "n_head"},
)


def config_from_hf(hf: Mapping[str, Any]) -> TransformerConfig:
    """config.json of a BloomForCausalLM. ALiBi does not limit the context; `seq_length` is that of training."""
    said = KEYS.values(hf)
    if said["slow_but_exact"] and said["pretraining_tp"] > 1:
        what = "with pretraining_tp is not supported: the published code then leaves out the biases of two layers."
        raise UnsupportedError(what, where=f"{WHERE}: slow_but_exact", hint="Without it, the sums are the same.")
    hidden_size = said["hidden_size"] if said["n_embed"] is None else said["n_embed"]
    heads, tied = said["n_head"], said["tie_word_embeddings"]
    return TransformerConfig(
        **{**DEFAULTS, "tie_embeddings": tied},
        vocab_size=said["vocab_size"],
        hidden_size=hidden_size,
        intermediate_size=4 * hidden_size,
        num_layers=said["n_layer"],
        num_heads=heads,
        num_kv_heads=heads,
        head_dim=hidden_size // heads,
        max_position_embeddings=said["seq_length"],
        norm_eps=said["layer_norm_epsilon"],
        **decoder_head(said, tied=tied),
    )


def config_to_hf(config: TransformerConfig) -> dict[str, Any]:
    return {
        **head_to_hf(config, "Bloom", FAMILY.architecture),
        "model_type": "bloom",
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "n_layer": config.num_layers,
        "n_head": config.num_heads,
        "seq_length": config.max_position_embeddings,
        "layer_norm_epsilon": config.norm_eps,
        "apply_residual_connection_post_layernorm": False,
        "tie_word_embeddings": config.tie_embeddings,
    }


def hf_rules(config: TransformerConfig) -> WeightRules:
    """Names of transformers' BloomForCausalLM, which fuses the query, key and value of one head after the other."""
    theirs, ours = "transformer.h.{i}", "decoder.layers.{i}"
    qkv = (f"{theirs}.self_attention.query_key_value", f"{ours}.self_attention")
    rules = [
        WeightRule("transformer.word_embeddings.weight", "embed_tokens.weight"),
        *fused_qkv(*qkv, config, grouped=True),
    ]
    names = {
        "attention_norm": "input_layernorm",
        "self_attention.o_proj": "self_attention.dense",
        "feed_forward_norm": "post_attention_layernorm",
        "feed_forward.up_proj": "mlp.dense_h_to_4h",
        "feed_forward.down_proj": "mlp.dense_4h_to_h",
    }
    rules += layer_rules(theirs, ours, names)
    around = {"embedding_norm": "word_embeddings_layernorm", "final_norm": "ln_f"}
    rules += layer_rules("transformer", "decoder", around)
    heads = [WeightRule("lm_head.weight", "lm_head.weight"), *classifier_rules(config)]
    return WeightRules([*rules, *heads], ignored=UNUSED_HEADS, prefix="transformer.")


def gguf_rules(config: TransformerConfig) -> WeightRules:
    """Names of a GGUF file, which fuses all queries, then all keys, then all values."""
    names = {**llama.GGUF_NAMES, "decoder.embedding_norm": "token_embd_norm"}
    fused = fused_qkv("blk.{i}.attn_qkv", "decoder.layers.{i}.self_attention", config)
    return WeightRules([*fused, *tensor_rules(names, llama.GGUF_LAYERS)])


FAMILY = Family(
    name="bloom",
    paper="arXiv 2211.05100",
    defaults=DEFAULTS,
    model_types=("bloom",),
    architecture="BloomForCausalLM",
    keys=KEYS,
    config_from_hf=config_from_hf,
    config_to_hf=config_to_hf,
    hf_rules=hf_rules,
    gguf=GgufFormat(architecture="bloom", keys={**SIZES, **GROUPED, **LAYER_NORM}, rules=gguf_rules, derive=tied),
)
