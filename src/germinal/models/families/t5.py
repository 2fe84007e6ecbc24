"""T5 (Raffel et al. 2019, arXiv 1910.10683), T5 1.1 and FLAN-T5 (Chung et al. 2022, arXiv 2210.11416)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from germinal.errors import UnsupportedError
from germinal.models.config import TransformerConfig
from germinal.models.families import tokenizers
from germinal.models.families.bart import CLASSIFIER_NAMES
from germinal.models.families.family import Family
from germinal.models.families.gguf_format import (
    HEAD_WIDTHS,
    RMS_NORM,
    SIZES,
    GgufFormat,
    Metadata,
    Tensors,
    tensor_rules,
    tied,
)
from germinal.models.families.published import activation, module_rules, published_activation
from germinal.models.families.published_heads import architecture, head_to_hf, two_stack_head
from germinal.models.families.published_keys import WHERE, PublishedKeys, maybe
from germinal.models.weight_rules import WeightRule, WeightRules

DEFAULTS: dict[str, Any] = {
    "stacks": "encoder-decoder",
    "norm": "rms",
    "norm_eps": 1e-6,
    "norm_placement": "pre",
    "block": "sequential",
    "positions": "relative",
    "activation": "gelu_tanh",
    "gated": True,
    "attention_scale": 1.0,
}


KEYS = PublishedKeys(
    read={
        "vocab_size": 32_128,
        "d_model": 512,
        "d_kv": 64,
        "d_ff": 2048,
        "num_layers": 6,
        "num_decoder_layers": maybe(int),
        "num_heads": 8,
        "relative_attention_num_buckets": 32,
        "relative_attention_max_distance": 128,
        "layer_norm_epsilon": 1e-6,
        "feed_forward_proj": "relu",
        "is_gated_act": maybe(bool),
        "dense_act_fn": maybe(str),
        "n_positions": maybe(int),
        "tie_word_embeddings": maybe(bool),
        "scale_decoder_outputs": maybe(bool),
    },
    no_effect=frozenset({"dropout_rate", "initializer_factor", "is_decoder"}),
    aliases={
        "hidden_size": "d_model",
        "num_attention_heads": "num_heads",
        "num_hidden_layers": "num_layers",
        "head_dim": "d_kv",
    },
)


def config_from_hf(hf: Mapping[str, Any]) -> TransformerConfig:
    """config.json of a T5ForConditionalGeneration, of its encoder alone, or with a head for classes.

    T5 1.0 has scaled logits and a tied output matrix, 1.1 neither. transformers 5 writes that it is tied in both cases,
    and the difference as `scale_decoder_outputs`; when a folder is read, the weights determine whether it is tied.
    """
    said = KEYS.values(hf)
    tied = said["tie_word_embeddings"] is not False
    scaled = tied if said["scale_decoder_outputs"] is None else said["scale_decoder_outputs"]
    alone = architecture(said, FAMILY.architecture).endswith("EncoderModel")
    stacks = {"stacks": "encoder"} if alone else {"num_encoder_layers": said["num_layers"]}
    decoder = said["num_layers"] if said["num_decoder_layers"] is None else said["num_decoder_layers"]
    return TransformerConfig(
        **{
            **DEFAULTS,
            **stacks,
            **two_stack_head(said),
            **_feed_forward(said),
            "norm_eps": said["layer_norm_epsilon"],
        },
        vocab_size=said["vocab_size"],
        hidden_size=said["d_model"],
        intermediate_size=said["d_ff"],
        num_layers=said["num_layers"] if alone else decoder,
        num_heads=said["num_heads"],
        num_kv_heads=said["num_heads"],
        head_dim=said["d_kv"],
        max_position_embeddings=512 if said["n_positions"] is None else said["n_positions"],
        num_buckets=said["relative_attention_num_buckets"],
        max_distance=said["relative_attention_max_distance"],
        tie_embeddings=tied and scaled,
        logit_scale=said["d_model"] ** -0.5 if scaled else 1.0,
    )


def _feed_forward(said: Mapping[str, Any]) -> dict[str, Any]:
    """`gated` and `activation`: as transformers takes them from `feed_forward_proj`, unless they are given apart."""
    gate, _, name = said["feed_forward_proj"].rpartition("-")
    if gate not in ("", "gated"):
        raise UnsupportedError(f"feed_forward_proj {said['feed_forward_proj']!r:.40} is not supported.", where=WHERE)
    gated = gate == "gated" if said["is_gated_act"] is None else said["is_gated_act"]
    # "gated-gelu" always meant the tanh form (transformers' T5Config says so).
    usual = "gelu_new" if gate and name == "gelu" else name
    return {"gated": gated, "activation": activation(said["dense_act_fn"] or usual)}


def config_to_hf(config: TransformerConfig) -> dict[str, Any]:
    name = published_activation(config.activation)
    return {
        **head_to_hf(config, "T5Encoder" if config.stacks == "encoder" else "T5", FAMILY.architecture),
        "model_type": "t5",
        "is_encoder_decoder": True,
        "vocab_size": config.vocab_size,
        "d_model": config.hidden_size,
        "d_ff": config.intermediate_size,
        "d_kv": config.head_dim,
        "num_layers": config.encoder_layers,
        "num_decoder_layers": config.num_layers,
        "num_heads": config.num_heads,
        "n_positions": config.max_position_embeddings,
        "layer_norm_epsilon": config.norm_eps,
        "relative_attention_num_buckets": config.num_buckets,
        "relative_attention_max_distance": config.max_distance,
        "feed_forward_proj": ("gated-gelu" if name == "gelu_new" else f"gated-{name}") if config.gated else name,
        "tie_word_embeddings": config.tie_embeddings,
        "scale_decoder_outputs": config.logit_scale != 1.0,
    }


def hf_rules(config: TransformerConfig) -> WeightRules:
    """Names of transformers' T5ForConditionalGeneration; the position table is in layer 0."""
    rules = [WeightRule("shared.weight", "embed_tokens.weight"), WeightRule("lm_head.weight", "lm_head.weight")]
    up = "wi_1" if config.gated else "wi"
    for stack in ("encoder", "decoder"):
        last = 1 if stack == "encoder" else 2
        names = {"attention_norm": "layer.0.layer_norm", "feed_forward_norm": f"layer.{last}.layer_norm"}
        names |= {f"self_attention.{part}_proj": f"layer.0.SelfAttention.{part}" for part in "qkvo"}
        names["feed_forward.gate_proj"] = f"layer.{last}.DenseReluDense.wi_0"
        names["feed_forward.up_proj"] = f"layer.{last}.DenseReluDense.{up}"
        names["feed_forward.down_proj"] = f"layer.{last}.DenseReluDense.wo"
        if stack == "decoder":
            names["cross_attention_norm"] = "layer.1.layer_norm"
            names |= {f"cross_attention.{part}_proj": f"layer.1.EncDecAttention.{part}" for part in "qkvo"}
        for ours, theirs in names.items():
            rules.append(WeightRule(f"{stack}.block.{{i}}.{theirs}.weight", f"{stack}.layers.{{i}}.{ours}.weight"))
        table = f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
        rules.append(WeightRule(table, f"{stack}.positions.table.weight"))
        rules.append(WeightRule(f"{stack}.final_layer_norm.weight", f"{stack}.final_norm.weight"))
        rules.append(WeightRule(f"{stack}.embed_tokens.weight", "embed_tokens.weight"))
    # A table in early checkpoints that no version has ever used.
    table = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"
    unused = [table, "lm_head.*", "classification_head.*", "classifier.*", "qa_outputs.*"]
    if config.stacks == "encoder":
        unused.append("decoder.*")
    if config.head == "sequence-classification":  # whose class adds a prefix to the model's names
        rules = [replace(rule, theirs=f"{_PREFIX}{rule.theirs}") for rule in rules]
        rules += module_rules(CLASSIFIER_NAMES)
    return WeightRules(rules, ignored=tuple(unused), prefix=_PREFIX)


_PREFIX = "transformer."


_GGUF_LAYERS = {
    "attention_norm": "attn_norm",
    **{f"self_attention.{part}_proj": f"attn_{part}" for part in "qkvo"},
    "cross_attention_norm": "cross_attn_norm",
    **{f"cross_attention.{part}_proj": f"cross_attn_{part}" for part in "qkvo"},
    "feed_forward_norm": "ffn_norm",
    **{f"feed_forward.{part}_proj": f"ffn_{part}" for part in ("gate", "up", "down")},
}


def gguf_rules(config: TransformerConfig) -> WeightRules:
    """Names of a GGUF file; the position table is in layer 0."""
    names = {"embed_tokens": "token_embd", "lm_head": "output"}
    stacks = {"encoder": "enc", "decoder": "dec"}
    for ours, theirs in stacks.items():
        names |= {
            f"{ours}.final_norm": f"{theirs}.output_norm",
            f"{ours}.positions.table": f"{theirs}.blk.0.attn_rel_b",
        }
    blocks = {ours: f"{theirs}.blk" for ours, theirs in stacks.items()}
    unused = ("dec.blk.{i}.cross_attn_rel_b.weight",)
    return WeightRules(tensor_rules(names, _GGUF_LAYERS, stacks=blocks), ignored=unused)


def _values_from_gguf(values: Metadata, metadata: Metadata, tensors: Tensors) -> dict[str, Any]:
    """A gated feed-forward network means T5 1.1; a tied output matrix means scaled logits, as in 1.0."""
    gated = "enc.blk.0.ffn_gate.weight" in tensors
    found = tied(values, metadata, tensors)
    return {
        **found,
        "num_layers": metadata.get("decoder_block_count") or values["num_encoder_layers"],
        "gated": gated,
        "activation": "gelu_tanh" if gated else "relu",
        "logit_scale": values["hidden_size"] ** -0.5 if found["tie_embeddings"] else 1.0,
    }


def _describe(config: TransformerConfig) -> dict[str, Any]:
    return {
        "block_count": config.encoder_layers,
        "decoder_block_count": config.num_layers,
        "attention.layer_norm_epsilon": config.norm_eps,
    }


def _written_as(config: TransformerConfig) -> TransformerConfig:
    """A tied output matrix means scaled logits in GGUF; without scaling, the matrix is written in full."""
    return replace(config, tie_embeddings=config.tie_embeddings and config.logit_scale != 1.0)


FAMILY = Family(
    name="t5",
    paper="arXiv 1910.10683",
    defaults=DEFAULTS,
    model_types=("t5",),
    architecture="T5ForConditionalGeneration",
    keys=KEYS,
    config_from_hf=config_from_hf,
    config_to_hf=config_to_hf,
    hf_rules=hf_rules,
    tokenizer=tokenizers.PIECES_WITH_SENTINELS,
    gguf=GgufFormat(
        architecture="t5",
        keys={
            **SIZES,
            "block_count": "num_encoder_layers",
            **HEAD_WIDTHS,
            **RMS_NORM,
            "attention.relative_buckets_count": "num_buckets",
        },
        rules=gguf_rules,
        derive=_values_from_gguf,
        derived=frozenset({"decoder_block_count"}),
        describe=_describe,
        written_as=_written_as,
    ),
    ties_by_weights=True,
)
