"""BERT (Devlin et al. 2018, arXiv 1810.04805) and MiniLM (arXiv 2002.10957), which has its shape."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from germinal.models.config import TransformerConfig
from germinal.models.families import tokenizers
from germinal.models.families.family import Family
from germinal.models.families.gguf_format import LAYER_NORM, SIZES, GgufFormat, Metadata, Tensors, tensor_rules
from germinal.models.families.published import (
    activation,
    layer_rules,
    module_rules,
    published_activation,
    usual_sizes,
)
from germinal.models.families.published_heads import encoder_head, head_to_hf
from germinal.models.families.published_keys import PublishedKeys, from_zero
from germinal.models.weight_rules import WeightRule, WeightRules

DEFAULTS: dict[str, Any] = {
    "stacks": "encoder",
    "norm": "layer",
    "norm_eps": 1e-12,
    "norm_placement": "post",
    "block": "sequential",
    "positions": "learned",
    "activation": "gelu",
    "gated": False,
    "attention_bias": True,
    "attention_output_bias": True,
    "feed_forward_bias": True,
    "embedding_norm": True,
    "num_token_types": 2,
    "tie_embeddings": True,
    "logit_bias": True,
    "head": "masked-lm",
}

ENCODER_NAMES = {
    "self_attention.q_proj": "attention.self.query",
    "self_attention.k_proj": "attention.self.key",
    "self_attention.v_proj": "attention.self.value",
    "self_attention.o_proj": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "feed_forward.up_proj": "intermediate.dense",
    "feed_forward.down_proj": "output.dense",
    "feed_forward_norm": "output.LayerNorm",
}


SHARED: dict[str, Any] = {
    "vocab_size": 30_522,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "hidden_act": "gelu",
    "max_position_embeddings": 512,
    "type_vocab_size": from_zero(2),
    "layer_norm_eps": 1e-12,
    "tie_word_embeddings": True,
}
"""The keys that BERT and RoBERTa have in common, with BERT's defaults."""
UNSUPPORTED: dict[str, Any] = {"position_embedding_type": "absolute", "is_decoder": False}
HINTS = {
    "position_embedding_type": "Use a model with absolute positions. (transformers 4 adds a vector for each distance "
    "to the keys of every layer; 5 passes over this key, and gives other outputs.)",
    "is_decoder": "The class is read as an encoder.",
}
NO_EFFECT = frozenset({"hidden_dropout_prob", "attention_probs_dropout_prob"})

KEYS = PublishedKeys(read=SHARED, only=UNSUPPORTED, hints=HINTS, no_effect=NO_EFFECT)


def sizes_from_hf(said: Mapping[str, Any]) -> dict[str, Any]:
    """The config values that BERT and RoBERTa have in common."""
    return {
        **usual_sizes(said),
        "norm_eps": said["layer_norm_eps"],
        "activation": activation(said["hidden_act"]),
        "num_token_types": said["type_vocab_size"],
        "tie_embeddings": said["tie_word_embeddings"],
        **encoder_head(said),
    }


def sizes_to_hf(config: TransformerConfig) -> dict[str, Any]:
    """The inverse of `sizes_from_hf`."""
    return {
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "hidden_act": published_activation(config.activation),
        "layer_norm_eps": config.norm_eps,
        "type_vocab_size": config.num_token_types,
        "tie_word_embeddings": config.tie_embeddings,
    }


def config_from_hf(hf: Mapping[str, Any]) -> TransformerConfig:
    """config.json of any Bert class, which determines the head."""
    said = KEYS.values(hf)
    positions = {"max_position_embeddings": said["max_position_embeddings"]}
    return TransformerConfig(**{**DEFAULTS, **sizes_from_hf(said), **positions})


def config_to_hf(config: TransformerConfig) -> dict[str, Any]:
    return {
        **head_to_hf(config, "Bert"),
        "model_type": "bert",
        "max_position_embeddings": config.max_position_embeddings,
        **sizes_to_hf(config),
    }


def hf_rules(config: TransformerConfig) -> WeightRules:
    """Names of transformers' BertModel and the classes built on it."""
    heads = module_rules(_HEADS.get(config.head or "", {}))
    if config.head == "masked-lm":
        heads += logit_rules("cls.predictions.bias", "cls.predictions.decoder", config)
    # With a masked-language-model head, the pooler and the next-sentence head of pre-training have no use.
    unused = ("bert.pooler.*", "cls.*", "classifier.*", "qa_outputs.*")
    return WeightRules([*encoder_rules("bert"), *heads], ignored=(*BUFFERS, *unused), prefix="bert.")


_HEADS: dict[str, dict[str, str]] = {
    "masked-lm": {"head.dense": "cls.predictions.transform.dense", "head.norm": "cls.predictions.transform.LayerNorm"},
    "pooler": {"head.dense": "bert.pooler.dense"},
    "sequence-classification": {"head.dense": "bert.pooler.dense", "head.classifier": "classifier"},
    "token-classification": {"head.classifier": "classifier"},
    "question-answering": {"head.classifier": "qa_outputs"},
}
BUFFERS = ("*embeddings.position_ids", "*embeddings.token_type_ids")
"""Numbers that every model has, which older versions of the published code stored."""


def logit_rules(bias: str, decoder: str, config: TransformerConfig) -> list[WeightRule]:
    """Rules for the output matrix (`decoder`) and the bias of the logits, which the head has and the matrix as well.

    transformers 5 lets the two share it only if the matrix is tied; otherwise the head's own has no effect.
    """
    matrix, copy = WeightRule(f"{decoder}.weight", "lm_head.weight"), WeightRule(f"{decoder}.bias", "logit_bias")
    if config.tie_embeddings:
        return [matrix, WeightRule(bias, "logit_bias"), copy]
    return [matrix, copy, WeightRule(bias, "logit_bias", fallback=True)]


def encoder_rules(prefix: str) -> list[WeightRule]:
    """Rules for embeddings and layers, whose published names start with a prefix."""
    return [
        WeightRule(f"{prefix}.embeddings.word_embeddings.weight", "embed_tokens.weight"),
        WeightRule(f"{prefix}.embeddings.position_embeddings.weight", "encoder.positions.table.weight"),
        WeightRule(f"{prefix}.embeddings.token_type_embeddings.weight", "embed_token_types.weight"),
        *module_rules({"encoder.embedding_norm": f"{prefix}.embeddings.LayerNorm"}),
        *layer_rules(f"{prefix}.encoder.layer.{{i}}", "encoder.layers.{i}", ENCODER_NAMES),
    ]


_GGUF_NAMES = {
    "embed_tokens": "token_embd",
    "embed_token_types": "token_types",
    "encoder.positions.table": "position_embd",
    "encoder.embedding_norm": "token_embd_norm",
    "head.dense": "cls",
    "head.classifier": "cls.output",
}
_GGUF_LAYERS = {
    **{f"self_attention.{part}_proj": f"attn_{part}" for part in "qkv"},
    "self_attention.o_proj": "attn_output",
    "attention_norm": "attn_output_norm",
    "feed_forward.up_proj": "ffn_up",
    "feed_forward.down_proj": "ffn_down",
    "feed_forward_norm": "layer_output_norm",
}


def gguf_rules(config: TransformerConfig) -> WeightRules:
    """Names of a GGUF file, which has no names for a masked-language-model head."""
    return WeightRules(tensor_rules(_GGUF_NAMES, _GGUF_LAYERS, stacks={"encoder": "blk"}))


def _values_from_gguf(values: Metadata, metadata: Metadata, tensors: Tensors) -> dict[str, Any]:
    classifier, types = tensors.get("cls.output.weight"), tensors.get("token_types.weight")
    bare = "pooler" if "cls.weight" in tensors else None
    return {
        "num_token_types": 0 if types is None else types.shape[0],
        "head": bare if classifier is None else "sequence-classification",
        "num_labels": 0 if classifier is None else classifier.shape[0],
    }


GGUF = GgufFormat(
    architecture="bert",
    keys={**SIZES, **LAYER_NORM},
    rules=gguf_rules,
    derive=_values_from_gguf,
    describe=lambda config: {"attention.causal": False},
)

FAMILY = Family(
    name="bert",
    paper="arXiv 1810.04805",
    defaults=DEFAULTS,
    model_types=("bert",),
    architecture="BertForMaskedLM",
    keys=KEYS,
    config_from_hf=config_from_hf,
    config_to_hf=config_to_hf,
    hf_rules=hf_rules,
    tokenizer=tokenizers.WORDPIECE,
    gguf=GGUF,
)
