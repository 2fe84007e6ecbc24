"""A checkpoint in memory: what the readers give and the writers take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from germinal.checkpoints.cards import ModelCard
from germinal.checkpoints.head_config import HeadConfig
from germinal.models.config import TransformerConfig
from germinal.models.families import Family
from germinal.text.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """All that a model is, but for the network that runs it.

    Attributes:
        config: What the network is built from.
        family: Whose names its published form uses.
        state_dict: Weights under our names, all of one dtype; memory-mapped where format and precision allow.
        tokenizer: The tokenizer that belongs to it.
        card: Name, licence, source, stored precision.
        generation_config: generation_config.json as published.
        head_config: How the outputs of a head, or the hidden states, are read.
        path: The folder or file that it was read from; None where it was made in memory.
    """

    config: TransformerConfig
    family: Family
    state_dict: Mapping[str, Tensor] = field(repr=False)
    tokenizer: Tokenizer
    card: ModelCard
    generation_config: Mapping[str, Any] = field(default_factory=dict)
    head_config: HeadConfig = field(default_factory=HeadConfig)
    path: Path | None = None

    @property
    def precision(self) -> str:
        """What its weights are held in: "float32", "bfloat16"."""
        return str(next(iter(self.state_dict.values())).dtype).removeprefix("torch.")
