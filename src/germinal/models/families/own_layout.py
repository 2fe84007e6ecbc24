"""Families without published code: config.json holds TransformerConfig's fields, and the weights have our names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from typing import Any

from germinal.errors import CheckpointError
from germinal.layers.positions import RopeScaling
from germinal.models.config import TransformerConfig
from germinal.models.families.family import Family, follow
from germinal.models.families.published_keys import WHERE
from germinal.models.weight_rules import WeightRule, WeightRules

_NAMES = [
    "embed_tokens.weight",
    "lm_head.weight",
    "logit_bias",
    *(f"{stack}.final_norm.{kind}" for stack in ("encoder", "decoder") for kind in ("weight", "bias")),
    *(f"{stack}.positions.table.weight" for stack in ("encoder", "decoder")),
]
_MODULES = [
    "norm",
    "attention_norm",
    "cross_attention_norm",
    "feed_forward_norm",
    *(f"{kind}_attention.{part}_proj" for kind in ("self", "cross") for part in "qkvo"),
    *(f"feed_forward.{part}_proj" for part in ("gate", "up", "down")),
]


def own_family(name: str, paper: str, defaults: Mapping[str, Any]) -> Family:
    """A family whose folders are in our own layout."""
    model_type = f"germinal_{name}"

    def to_hf(config: TransformerConfig) -> dict[str, Any]:
        return {"architectures": ["Transformer"], "model_type": model_type, **asdict(config)}

    return Family(
        name=name,
        paper=paper,
        defaults=defaults,
        model_types=(model_type,),
        architecture="Transformer",
        config_from_hf=_reader(defaults),
        config_to_hf=to_hf,
        hf_rules=_rules,
    )


def _reader(defaults: Mapping[str, Any]) -> Callable[[Mapping[str, Any]], TransformerConfig]:
    def config_from_hf(hf: Mapping[str, Any]) -> TransformerConfig:
        known = {field.name for field in fields(TransformerConfig)}
        given = {key: value for key, value in hf.items() if key in known}
        try:
            if given.get("rope_scaling"):
                given["rope_scaling"] = RopeScaling(**given["rope_scaling"])
            if given.get("windowed_layers"):
                given["windowed_layers"] = tuple(given["windowed_layers"])
            return TransformerConfig(**follow({**defaults, **given}))
        except TypeError as error:
            raise CheckpointError(f"is not complete: {error}.", where=WHERE) from error

    return config_from_hf


def _rules(config: TransformerConfig) -> WeightRules:
    layers = [
        f"{stack}.layers.{{i}}.{module}.{kind}"
        for stack in ("encoder", "decoder")
        for module in _MODULES
        for kind in ("weight", "bias")
    ]
    return WeightRules([WeightRule(name, name) for name in [*_NAMES, *layers]])
