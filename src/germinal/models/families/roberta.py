"""RoBERTa (Liu et al. 2019, arXiv 1907.11692): BERT's axes, with positions that start after the padding token's id."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from germinal.models.config import TransformerConfig
from germinal.models.families import bert, tokenizers
from germinal.models.families.family import Family
from germinal.models.families.published import module_rules
from germinal.models.families.published_heads import head_to_hf
from germinal.models.families.published_keys import PublishedKeys, from_zero
from germinal.models.weight_rules import WeightRules

DEFAULTS: dict[str, Any] = {
    **bert.DEFAULTS,
    "norm_eps": 1e-5,
    "num_token_types": 1,
    "position_offset": 2,
    "uncounted_token": 1,
    "head_activation": "gelu",
}

KEYS = PublishedKeys(
    read={**bert.SHARED, "vocab_size": 50_265, "pad_token_id": from_zero(1)},
    only=bert.UNSUPPORTED,
    hints=bert.HINTS,
    no_effect=bert.NO_EFFECT,
)


def config_from_hf(hf: Mapping[str, Any]) -> TransformerConfig:
    """config.json of any Roberta class. The head for masked words has GELU, whatever the layers have."""
    said = KEYS.values(hf)
    padding = said["pad_token_id"]
    own = {
        "position_offset": padding + 1,
        "uncounted_token": padding,
        "max_position_embeddings": said["max_position_embeddings"] - padding - 1,
    }
    return TransformerConfig(**{**DEFAULTS, **bert.sizes_from_hf(said), **own})


def config_to_hf(config: TransformerConfig) -> dict[str, Any]:
    return {
        **head_to_hf(config, "Roberta"),
        "model_type": "roberta",
        "pad_token_id": config.position_offset - 1,
        "max_position_embeddings": config.max_position_embeddings + config.position_offset,
        **bert.sizes_to_hf(config),
    }


def hf_rules(config: TransformerConfig) -> WeightRules:
    """Names of transformers' RobertaModel and the classes built on it."""
    heads = module_rules(_HEADS.get(config.head or "", {}))
    if config.head == "masked-lm":
        heads += bert.logit_rules("lm_head.bias", "lm_head.decoder", config)
    unused = ("roberta.pooler.*", "lm_head.*", "classifier.*", "qa_outputs.*")
    rules = [*bert.encoder_rules("roberta"), *heads]
    return WeightRules(rules, ignored=(*bert.BUFFERS, *unused), prefix="roberta.")


_HEADS: dict[str, dict[str, str]] = {
    "masked-lm": {"head.dense": "lm_head.dense", "head.norm": "lm_head.layer_norm"},
    "pooler": {"head.dense": "roberta.pooler.dense"},
    "sequence-classification": {"head.dense": "classifier.dense", "head.classifier": "classifier.out_proj"},
    "token-classification": {"head.classifier": "classifier"},
    "question-answering": {"head.classifier": "qa_outputs"},
}


FAMILY = Family(
    name="roberta",
    paper="arXiv 1907.11692",
    defaults=DEFAULTS,
    model_types=("roberta",),
    architecture="RobertaForMaskedLM",
    keys=KEYS,
    config_from_hf=config_from_hf,
    config_to_hf=config_to_hf,
    hf_rules=hf_rules,
    tokenizer=tokenizers.BYTE_LEVEL_SENTENCES,
)
