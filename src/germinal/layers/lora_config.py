"""Size and place of a LoRA adapter. No torch is needed to say it; `germinal.layers.linear` makes the adapter."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from germinal.errors import SettingError

ALL_LINEAR = "all-linear"


@dataclass(frozen=True, slots=True)
class LoRAConfig:
    """Which layers get an adapter, and of what size. A field's help is what the command line says of its option.

    Raises:
        SettingError: a value is out of range.
    """

    rank: int = field(default=8, metadata={"help": "Inner width of the update."})
    alpha: float = field(default=16.0, metadata={"help": "The update is multiplied by alpha / rank."})
    dropout: float = field(
        default=0.0, metadata={"help": "Probability of dropping an input of the update while training, below 1."}
    )
    target_modules: tuple[str, ...] = field(
        default=("q_proj", "v_proj"),
        metadata={"help": "Names of the adapted layers, or all-linear for every linear layer but the output head."},
    )
    layers: tuple[int, ...] | None = field(
        default=None,
        metadata={"help": "Indices of the adapted blocks, all by default. Upper blocks alone train faster."},
    )
    use_rslora: bool = field(default=False, metadata={"help": "Multiply by alpha / sqrt(rank) instead."})

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise SettingError(f"must be at least 1, not {self.rank}.", where="rank")
        if not (math.isfinite(self.alpha) and self.alpha > 0):
            raise SettingError(f"must be above 0, not {self.alpha}.", where="alpha")
        if not 0 <= self.dropout < 1:
            raise SettingError(f"must be at least 0 and below 1, not {self.dropout}.", where="dropout")
        if not self.target_modules or not isinstance(self.target_modules, tuple):  # a bare string would pass as letters
            raise SettingError(
                "must be a tuple of layer names.", where="target_modules", hint='For instance ["q_proj", "v_proj"].'
            )
        if self.layers is not None and (not self.layers or min(self.layers) < 0):
            raise SettingError("must be a list of block indices from 0.", where="layers")

    @property
    def scaling(self) -> float:
        """The factor s of the update s B A x."""
        return self.alpha / (math.sqrt(self.rank) if self.use_rslora else self.rank)
