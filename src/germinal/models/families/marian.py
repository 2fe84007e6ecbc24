"""Marian (Junczys-Dowmunt et al. 2018, arXiv 1804.00344): BART with sinusoidal positions and no embedding norm."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from germinal.errors import UnsupportedError
from germinal.models.config import TransformerConfig
from germinal.models.families import bart, tokenizers
from germinal.models.families.family import Family
from germinal.models.families.published_heads import head_to_hf, two_stack_head
from germinal.models.families.published_keys import WHERE, PublishedKeys, maybe

DEFAULTS: dict[str, Any] = {
    **bart.DEFAULTS,
    "positions": "sinusoidal_halves",
    "position_offset": 0,
    "activation": "silu",
    "embedding_norm": False,
}


KEYS = PublishedKeys(
    read={**bart.SHARED, "vocab_size": 58_101, "scale_embedding": False, "decoder_vocab_size": maybe(int, least=0)},
    only={"share_encoder_decoder_embeddings": True},
    no_effect=bart.NO_EFFECT,
    tokens={"decoder_start_token_id": 58_100, "forced_eos_token_id": 0},
    aliases=bart.ALIASES,
)


def config_from_hf(hf: Mapping[str, Any]) -> TransformerConfig:
    """config.json of a MarianMTModel."""
    said = KEYS.values(hf)
    if (said["decoder_vocab_size"] or said["vocab_size"]) != said["vocab_size"]:
        raise UnsupportedError(
            f"is {said['decoder_vocab_size']:,}, and vocab_size {said['vocab_size']:,}: a decoder with a vocabulary of "
            "its own is not supported.",
            where=f"{WHERE}: decoder_vocab_size",
        )
    return TransformerConfig(**{**DEFAULTS, **bart.sizes_from_hf(said), **two_stack_head(said)})


def config_to_hf(config: TransformerConfig) -> dict[str, Any]:
    return {**head_to_hf(config, "Marian", FAMILY.architecture), "model_type": "marian", **bart.sizes_to_hf(config)}


FAMILY = Family(
    name="marian",
    paper="arXiv 1804.00344",
    defaults=DEFAULTS,
    model_types=("marian",),
    architecture="MarianMTModel",
    keys=KEYS,
    config_from_hf=config_from_hf,
    config_to_hf=config_to_hf,
    hf_rules=bart.hf_rules,
    tokenizer=tokenizers.PIECES_SOURCE_AND_TARGET,
)
