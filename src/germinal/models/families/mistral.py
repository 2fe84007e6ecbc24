"""Mistral (Jiang et al. 2023, arXiv 2310.06825): LLaMA with a sliding window."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from germinal.models.config import TransformerConfig
from germinal.models.families import llama, tokenizers
from germinal.models.families.family import Family
from germinal.models.families.published_heads import head_to_hf

DEFAULTS: dict[str, Any] = {**llama.DEFAULTS, "window": 4096}


def config_from_hf(hf: Mapping[str, Any]) -> TransformerConfig:
    """config.json of a MistralForCausalLM; later models have no window."""
    return TransformerConfig(**{**DEFAULTS, **llama.sizes_from_hf(hf), "window": hf.get("sliding_window")})


def config_to_hf(config: TransformerConfig) -> dict[str, Any]:
    return {
        **head_to_hf(config, "Mistral", FAMILY.architecture),
        "model_type": "mistral",
        **llama.sizes_to_hf(config),
        "sliding_window": config.window,
    }


def _written_as(config: TransformerConfig) -> TransformerConfig:
    """The GGUF architecture has no window; one as large as the context window has no effect."""
    unreached = config.window is not None and config.window >= config.max_position_embeddings
    return replace(config, window=None) if unreached else config


FAMILY = Family(
    name="mistral",
    paper="arXiv 2310.06825",
    defaults=DEFAULTS,
    model_types=("mistral",),
    architecture="MistralForCausalLM",
    config_from_hf=config_from_hf,
    config_to_hf=config_to_hf,
    hf_rules=llama.hf_rules,
    tokenizer=tokenizers.PIECES_AFTER_START,
    gguf=replace(llama.GGUF, written_as=_written_as),
)
