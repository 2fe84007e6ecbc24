"""Mistral (Jiang et al. 2023, arXiv 2310.06825): LLaMA with a sliding window."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from germinal.errors import UnsupportedError
from germinal.models.config import TransformerConfig
from germinal.models.families import llama, tokenizers
from germinal.models.families.family import Family
from germinal.models.families.published_heads import head_to_hf
from germinal.models.families.published_keys import WHERE, PublishedKeys, maybe
from germinal.models.families.rope import rope, rope_to_hf
from germinal.models.families.windows import windows_from_hf

DEFAULTS: dict[str, Any] = {**llama.DEFAULTS, "window": 4096}


KEYS = PublishedKeys(
    read={
        **llama.SHARED,
        "intermediate_size": 14_336,
        "num_key_value_heads": maybe(int, 8),
        "max_position_embeddings": 131_072,
        "sliding_window": maybe(int, 4096),
        "layer_types": maybe(list),  # not a key of the class, which gives every layer the window
    },
    only=llama.UNSUPPORTED,
    no_effect=llama.NO_EFFECT,
)


def config_from_hf(hf: Mapping[str, Any]) -> TransformerConfig:
    """config.json of a MistralForCausalLM. Every layer has the window; that of later models is null."""
    said = KEYS.values(hf)
    windows = {} if said["layer_types"] is None else windows_from_hf(said, used=True, windowed=lambda layer: True)
    if windows and (windows["window"] != said["sliding_window"] or not all(windows.get("windowed_layers", ()))):
        raise UnsupportedError(
            "gives some layers the window and others not, which this class ignores.",
            where=f"{WHERE}: layer_types",
            hint="Is the model of another type, such as ministral?",
        )
    shared = {**DEFAULTS, **llama.shared_from_hf(said), **rope(said)}
    return TransformerConfig(**{**shared, "window": said["sliding_window"]})


def config_to_hf(config: TransformerConfig) -> dict[str, Any]:
    return {
        **head_to_hf(config, "Mistral", FAMILY.architecture),
        "model_type": "mistral",
        **llama.shared_to_hf(config),
        **rope_to_hf(config.rope_theta, config.rope_scaling),
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
    keys=KEYS,
    config_from_hf=config_from_hf,
    config_to_hf=config_to_hf,
    hf_rules=llama.hf_rules,
    tokenizer=tokenizers.PIECES_AFTER_START,
    gguf=replace(llama.GGUF, written_as=_written_as),
)
