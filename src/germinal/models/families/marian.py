"""Marian (Junczys-Dowmunt et al. 2018, arXiv 1804.00344): BART with sinusoidal positions and no embedding norm."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from germinal.models.config import TransformerConfig
from germinal.models.families import bart, tokenizers
from germinal.models.families.family import Family
from germinal.models.families.published import refuse
from germinal.models.families.published_heads import head_to_hf

DEFAULTS: dict[str, Any] = {
    **bart.DEFAULTS,
    "positions": "sinusoidal_halves",
    "position_offset": 0,
    "activation": "silu",
    "embedding_norm": False,
}


def config_from_hf(hf: Mapping[str, Any]) -> TransformerConfig:
    """config.json of a MarianMTModel."""
    refuse(hf, share_encoder_decoder_embeddings=True, decoder_vocab_size=hf.get("vocab_size"))
    return TransformerConfig(**{**DEFAULTS, **bart.sizes_from_hf(hf)})


def config_to_hf(config: TransformerConfig) -> dict[str, Any]:
    return {**head_to_hf(config, "Marian", FAMILY.architecture), "model_type": "marian", **bart.sizes_to_hf(config)}


FAMILY = Family(
    name="marian",
    paper="arXiv 1804.00344",
    defaults=DEFAULTS,
    model_types=("marian",),
    architecture="MarianMTModel",
    config_from_hf=config_from_hf,
    config_to_hf=config_to_hf,
    hf_rules=bart.hf_rules,
    tokenizer=tokenizers.PIECES_SOURCE_AND_TARGET,
)
