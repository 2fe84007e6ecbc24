"""The families: published configs and weight names <-> ours, as data. No other package knows a family's name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from germinal.errors import CheckpointError, UnsupportedError, nearest
from germinal.models.families import (
    bart,
    bert,
    bloom,
    distilbert,
    gemma3,
    gpt2,
    jurassic1,
    llama,
    marian,
    mistral,
    palm,
    qwen2,
    qwen3,
    roberta,
    t5,
    transformer,
)
from germinal.models.families.family import Family
from germinal.models.transformer import Transformer

_MODULES = (
    transformer,
    bert,
    roberta,
    distilbert,
    bart,
    marian,
    t5,
    gpt2,
    bloom,
    palm,
    jurassic1,
    llama,
    mistral,
    qwen2,
    qwen3,
    gemma3,
)
FAMILIES: dict[str, Family] = {module.FAMILY.name: module.FAMILY for module in _MODULES}

__all__ = ["FAMILIES", "Family", "build", "for_gguf", "for_hf"]


def for_hf(config: Mapping[str, Any]) -> Family:
    """The family of a Hugging Face config.json, by its `model_type`.

    Raises:
        CheckpointError: the config names no model type.
        UnsupportedError: no family has this model type; the message names the nearest.
    """
    model_type = config.get("model_type")
    if not isinstance(model_type, str):
        raise CheckpointError(
            "has no 'model_type'.", where="config.json", hint="Is this a Hugging Face model's config?"
        )
    known = {name: family for family in FAMILIES.values() for name in family.model_types}
    if model_type not in known:
        raise UnsupportedError(
            f"unknown model_type '{model_type}'.", where="config.json", hint=nearest(model_type, list(known))
        )
    return known[model_type]


def for_gguf(architecture: str) -> Family:
    """The family of a GGUF file, by its `general.architecture`.

    Raises:
        UnsupportedError: no family has this architecture.
    """
    known: dict[str, Family] = {}
    for family in FAMILIES.values():
        if family.gguf is not None:
            known.setdefault(family.gguf.architecture, family)
    if architecture not in known:
        raise UnsupportedError(f"unknown GGUF architecture '{architecture}'.", hint=nearest(architecture, list(known)))
    return known[architecture]


def build(family: str, *, device: str | None = None, **config: Any) -> Transformer:
    """A randomly initialised network of a family; `config` gives the sizes, and overrides the family's defaults.

    Raises:
        UnsupportedError: no such family.
        SettingError: a size is missing or impossible.
    """
    if family not in FAMILIES:
        raise UnsupportedError(f"unknown family '{family}'.", hint=nearest(family, list(FAMILIES)))
    return Transformer(FAMILIES[family].config(**config), device=device)
