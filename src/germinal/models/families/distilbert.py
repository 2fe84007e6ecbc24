"""DistilBERT (Sanh et al. 2019, arXiv 1910.01108): BERT's axes without segments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from germinal.models.config import TransformerConfig
from germinal.models.families import bert, tokenizers
from germinal.models.families.family import Family
from germinal.models.families.published import (
    activation,
    layer_rules,
    module_rules,
    published_activation,
)
from germinal.models.families.published_heads import encoder_head, head_to_hf
from germinal.models.families.published_keys import PublishedKeys
from germinal.models.weight_rules import WeightRule, WeightRules

DEFAULTS: dict[str, Any] = {**bert.DEFAULTS, "num_token_types": 0, "pooler_activation": "relu"}

_LAYER_NAMES = {
    "self_attention.q_proj": "attention.q_lin",
    "self_attention.k_proj": "attention.k_lin",
    "self_attention.v_proj": "attention.v_lin",
    "self_attention.o_proj": "attention.out_lin",
    "attention_norm": "sa_layer_norm",
    "feed_forward.up_proj": "ffn.lin1",
    "feed_forward.down_proj": "ffn.lin2",
    "feed_forward_norm": "output_layer_norm",
}


KEYS = PublishedKeys(
    read={
        "vocab_size": 30_522,
        "max_position_embeddings": 512,
        "n_layers": 6,
        "n_heads": 12,
        "dim": 768,
        "hidden_dim": 3072,
        "activation": "gelu",
        "tie_word_embeddings": True,
    },
    no_effect=frozenset(
        {
            "dropout",
            "qa_dropout",
            "seq_classif_dropout",
            "sinusoidal_pos_embds",  # how the table began; its values are stored all the same
        }
    ),
    aliases={"hidden_size": "dim", "num_attention_heads": "n_heads", "num_hidden_layers": "n_layers"},
)


def config_from_hf(hf: Mapping[str, Any]) -> TransformerConfig:
    """config.json of any DistilBert class; DistilBertModel has no pooler."""
    said = KEYS.values(hf)
    heads = said["n_heads"]
    return TransformerConfig(
        **{**DEFAULTS, **encoder_head(said, pooler=False), "activation": activation(said["activation"])}
        | {"tie_embeddings": said["tie_word_embeddings"]},
        vocab_size=said["vocab_size"],
        hidden_size=said["dim"],
        intermediate_size=said["hidden_dim"],
        num_layers=said["n_layers"],
        num_heads=heads,
        num_kv_heads=heads,
        head_dim=said["dim"] // heads,
        max_position_embeddings=said["max_position_embeddings"],
    )


def config_to_hf(config: TransformerConfig) -> dict[str, Any]:
    return {
        **head_to_hf(config, "DistilBert"),
        "model_type": "distilbert",
        "vocab_size": config.vocab_size,
        "dim": config.hidden_size,
        "hidden_dim": config.intermediate_size,
        "n_layers": config.num_layers,
        "n_heads": config.num_heads,
        "max_position_embeddings": config.max_position_embeddings,
        "activation": published_activation(config.activation),
        "tie_word_embeddings": config.tie_embeddings,
    }


def hf_rules(config: TransformerConfig) -> WeightRules:
    """Names of transformers' DistilBertModel and the classes built on it."""
    rules = [
        WeightRule("distilbert.embeddings.word_embeddings.weight", "embed_tokens.weight"),
        WeightRule("distilbert.embeddings.position_embeddings.weight", "encoder.positions.table.weight"),
        *module_rules({"encoder.embedding_norm": "distilbert.embeddings.LayerNorm"}),
        *layer_rules("distilbert.transformer.layer.{i}", "encoder.layers.{i}", _LAYER_NAMES),
    ]
    heads = module_rules(_HEADS.get(config.head or "", {}))
    if config.head == "masked-lm":
        heads += [
            WeightRule("vocab_projector.bias", "logit_bias"),
            WeightRule("vocab_projector.weight", "lm_head.weight"),
        ]
    unused = ("vocab_*", "pre_classifier.*", "classifier.*", "qa_outputs.*")
    return WeightRules([*rules, *heads], ignored=(*bert.BUFFERS, *unused), prefix="distilbert.")


_HEADS: dict[str, dict[str, str]] = {
    "masked-lm": {"head.dense": "vocab_transform", "head.norm": "vocab_layer_norm"},
    "sequence-classification": {"head.dense": "pre_classifier", "head.classifier": "classifier"},
    "token-classification": {"head.classifier": "classifier"},
    "question-answering": {"head.classifier": "qa_outputs"},
}

FAMILY = Family(
    name="distilbert",
    paper="arXiv 1910.01108",
    defaults=DEFAULTS,
    model_types=("distilbert",),
    architecture="DistilBertForMaskedLM",
    keys=KEYS,
    config_from_hf=config_from_hf,
    config_to_hf=config_to_hf,
    hf_rules=hf_rules,
    tokenizer=tokenizers.WORDPIECE,
    gguf=bert.GGUF,
)
