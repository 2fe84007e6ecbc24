"""A checkpoint in memory: what the readers of all formats return and the writers take."""

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
    """All that a model consists of, except the network that runs it.

    Attributes:
        config: The config of the network.
        family: The family, for its published config and weight names.
        state_dict: Weights under our names, all of one dtype; memory-mapped where the format allows.
        tokenizer: Its tokenizer.
        card: Name, licence, source and stored precision.
        generation_config: The contents of generation_config.json.
        head_config: How its outputs are interpreted.
        path: The folder or file that it was read from, or None.
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
        """The precision of the weights in memory: "float32" or "bfloat16"."""
        return str(next(iter(self.state_dict.values())).dtype).removeprefix("torch.")
