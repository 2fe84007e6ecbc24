"""GPT-2 (Radford et al. 2019, "Language Models are Unsupervised Multitask Learners")."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from germinal.models.config import TransformerConfig
from germinal.models.families import llama, tokenizers
from germinal.models.families.family import Family
from germinal.models.families.gguf_format import LAYER_NORM, SIZES, GgufFormat, tensor_rules, tied
from germinal.models.families.published import (
    activation,
    fused_qkv,
    layer_rules,
    module_rules,
    published_activation,
)
from germinal.models.families.published_heads import decoder_head, head_to_hf
from germinal.models.families.published_keys import PublishedKeys, maybe
from germinal.models.weight_rules import Transpose, WeightRule, WeightRules

DEFAULTS: dict[str, Any] = {
    "stacks": "decoder",
    "norm": "layer",
    "norm_placement": "pre",
    "block": "sequential",
    "positions": "learned",
    "activation": "gelu_tanh",
    "gated": False,
    "attention_bias": True,
    "attention_output_bias": True,
    "feed_forward_bias": True,
    "tie_embeddings": True,
}


KEYS = PublishedKeys(
    read={
        "vocab_size": 50_257,
        "n_positions": 1024,
        "n_embd": 768,
        "n_layer": 12,
        "n_head": 12,
        "n_inner": maybe(int),
        "activation_function": "gelu_new",
        "layer_norm_epsilon": 1e-5,
        "scale_attn_weights": True,
        "scale_attn_by_inverse_layer_idx": False,
        "tie_word_embeddings": True,
    },
    only={"is_causal": True},
    no_effect=frozenset(
        {
            "is_decoder",
            "n_ctx",  # n_positions in early files
            "resid_pdrop",
            "embd_pdrop",
            "attn_pdrop",
            "reorder_and_upcast_attn",  # float32 inside attention, which we have without it
            *(f"summary_{what}" for what in ("type", "use_proj", "activation", "proj_to_labels", "first_dropout")),
        }
    ),
    aliases={
        "hidden_size": "n_embd",
        "max_position_embeddings": "n_positions",
        "num_attention_heads": "n_head",
        "num_hidden_layers": "n_layer",
    },
)


def config_from_hf(hf: Mapping[str, Any]) -> TransformerConfig:
    """config.json of a GPT2LMHeadModel."""
    said = KEYS.values(hf)
    hidden_size, heads, tied = said["n_embd"], said["n_head"], said["tie_word_embeddings"]
    return TransformerConfig(
        **{**DEFAULTS, "activation": activation(said["activation_function"]), "tie_embeddings": tied},
        vocab_size=said["vocab_size"],
        hidden_size=hidden_size,
        intermediate_size=4 * hidden_size if said["n_inner"] is None else said["n_inner"],
        num_layers=said["n_layer"],
        num_heads=heads,
        num_kv_heads=heads,
        head_dim=hidden_size // heads,
        max_position_embeddings=said["n_positions"],
        norm_eps=said["layer_norm_epsilon"],
        attention_scale=None if said["scale_attn_weights"] else 1.0,
        attention_scale_by_layer=said["scale_attn_by_inverse_layer_idx"],
        **decoder_head(said, tied=tied),
    )


def config_to_hf(config: TransformerConfig) -> dict[str, Any]:
    return {
        **head_to_hf(config, "GPT2", FAMILY.architecture),
        "model_type": "gpt2",
        "vocab_size": config.vocab_size,
        "n_embd": config.hidden_size,
        "n_inner": config.intermediate_size,
        "n_layer": config.num_layers,
        "n_head": config.num_heads,
        "n_positions": config.max_position_embeddings,
        "activation_function": published_activation(config.activation),
        "layer_norm_epsilon": config.norm_eps,
        "scale_attn_weights": config.attention_scale is None,
        "scale_attn_by_inverse_layer_idx": config.attention_scale_by_layer,
        "tie_word_embeddings": config.tie_embeddings,
    }


def hf_rules(config: TransformerConfig) -> WeightRules:
    """Names of transformers' GPT2LMHeadModel, whose projections are convolutions of width one: transposed matrices."""
    theirs, ours = "transformer.h.{i}", "decoder.layers.{i}"
    rules = [
        WeightRule("transformer.wte.weight", "embed_tokens.weight"),
        WeightRule("transformer.wpe.weight", "decoder.positions.table.weight"),
        *fused_qkv(f"{theirs}.attn.c_attn", f"{ours}.self_attention", config, transposed=True),
    ]
    projections = {
        "self_attention.o_proj": "attn.c_proj",
        "feed_forward.up_proj": "mlp.c_fc",
        "feed_forward.down_proj": "mlp.c_proj",
    }
    for name, published in projections.items():
        rules.append(WeightRule(f"{theirs}.{published}.weight", f"{ours}.{name}.weight", Transpose()))
        rules.append(WeightRule(f"{theirs}.{published}.bias", f"{ours}.{name}.bias"))
    rules += layer_rules(theirs, ours, {"attention_norm": "ln_1", "feed_forward_norm": "ln_2"})
    rules += layer_rules("transformer", "decoder", {"final_norm": "ln_f"})
    buffers = ("transformer.h.{i}.attn.bias", "transformer.h.{i}.attn.masked_bias")
    heads = [WeightRule("lm_head.weight", "lm_head.weight"), *classifier_rules(config)]
    return WeightRules([*rules, *heads], ignored=(*buffers, *UNUSED_HEADS), prefix="transformer.")


def gguf_rules(config: TransformerConfig) -> WeightRules:
    """Names of a GGUF file, whose projections are [O, I] like ours."""
    names = {**llama.GGUF_NAMES, "decoder.positions.table": "position_embd"}
    fused = fused_qkv("blk.{i}.attn_qkv", "decoder.layers.{i}.self_attention", config)
    return WeightRules([*fused, *tensor_rules(names, llama.GGUF_LAYERS)])


UNUSED_HEADS = ("lm_head.*", "score.*", "classifier.*", "qa_outputs.*", "multiple_choice_head.*")
"""The heads of the published decoders, of which a class has one."""


def classifier_rules(config: TransformerConfig) -> list[WeightRule]:
    """Names of the classification heads of GPT-2 and BLOOM."""
    name = "classifier" if config.head == "token-classification" else "score"
    return module_rules({"head.classifier": name})


FAMILY = Family(
    name="gpt2",
    paper="Radford et al. 2019",
    defaults=DEFAULTS,
    model_types=("gpt2",),
    architecture="GPT2LMHeadModel",
    keys=KEYS,
    config_from_hf=config_from_hf,
    config_to_hf=config_to_hf,
    hf_rules=hf_rules,
    tokenizer=tokenizers.BYTE_LEVEL,
    gguf=GgufFormat(architecture="gpt2", keys={**SIZES, **LAYER_NORM}, rules=gguf_rules, derive=tied),
)
