"""What a family's file provides: how its published configs and weights map to ours."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from germinal.models.config import TransformerConfig
from germinal.models.weight_rules import WeightRules


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One family as data.

    Attributes:
        name: As papers call it, in lower case.
        paper: Where it was published.
        defaults: The config values that make a model one of this family; sizes are left open.
        model_types: Hugging Face `model_type`s.
        architecture: Hugging Face class name written to config.json.
        config_from_hf, config_to_hf: config.json <-> config.
        hf_rules: Weight names of the Hugging Face layout.
        gguf_architectures: GGUF `general.architecture` names.
        config_from_gguf: GGUF metadata and tensors (a few families store a part of the config as a tensor) -> config.
        gguf_rules: Weight names of the GGUF layout.
    """

    name: str
    paper: str
    defaults: Mapping[str, Any]
    model_types: tuple[str, ...]
    architecture: str
    config_from_hf: Callable[[Mapping[str, Any]], TransformerConfig]
    config_to_hf: Callable[[TransformerConfig], dict[str, Any]]
    hf_rules: Callable[[TransformerConfig], WeightRules]
    gguf_architectures: tuple[str, ...] = ()
    config_from_gguf: Callable[[Mapping[str, Any], Mapping[str, Tensor]], TransformerConfig] | None = None
    gguf_rules: Callable[[TransformerConfig], WeightRules] | None = None
