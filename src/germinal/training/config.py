"""What can be set about a training run. The size and place of a LoRA adapter is `germinal.layers.linear.LoRAConfig`."""

from __future__ import annotations

import math
from dataclasses import dataclass

from germinal.errors import SettingError, nearest
from germinal.layers.linear import LoRAConfig
from germinal.training.schedules import SCHEDULES

__all__ = ["LoRAConfig", "TrainingConfig"]


@dataclass(frozen=True, slots=True)
class TrainingConfig:
    """Settings of `germinal.training.loop.train`; every one of them bears on the result except `save_every`.

    Attributes:
        epochs: Times that every training example is seen.
        max_steps: Stop after this many updates, if that comes earlier.
        micro_batch_size: Examples that go through the network at once.
        gradient_accumulation_steps: Micro-batches to one update. The gradient is that of the one big batch.
        learning_rate: Highest learning rate of AdamW.
        schedule: How it falls from there to zero: "constant", "linear" or "cosine".
        warmup_steps: Updates in which it rises from zero; None is 5% of all.
        weight_decay: Decoupled decay of matrices; norms and biases have none.
        adam_betas: Decay of AdamW's two running means.
        max_grad_norm: The gradient is shortened to this length; None leaves it.
        seed: Of the order of examples, dropout, the validation part and fresh weights.
        validation_fraction: Part of the examples, at least one if above 0, that only chooses the best checkpoint.
        evaluate_every: Updates between two looks at the validation part; None is twice an epoch.
        save_every: Updates between two checkpoints; what is lost when the run is killed.
    """

    epochs: int = 1
    max_steps: int | None = None
    micro_batch_size: int = 8
    gradient_accumulation_steps: int = 1
    learning_rate: float = 1e-3
    schedule: str = "cosine"
    warmup_steps: int | None = None
    weight_decay: float = 0.0
    adam_betas: tuple[float, float] = (0.9, 0.999)
    max_grad_norm: float | None = 1.0
    seed: int = 0
    validation_fraction: float = 0.1
    evaluate_every: int | None = None
    save_every: int = 10

    def __post_init__(self) -> None:
        for name in ("epochs", "micro_batch_size", "gradient_accumulation_steps", "save_every"):
            _require(name, getattr(self, name), getattr(self, name) >= 1, "at least 1")
        for name in ("max_steps", "evaluate_every"):
            value = getattr(self, name)
            _require(name, value, value is None or value >= 1, "at least 1, or absent")
        _require("warmup_steps", self.warmup_steps, self.warmup_steps is None or self.warmup_steps >= 0, "at least 0")
        _require("learning_rate", self.learning_rate, 0 < self.learning_rate < math.inf, "above 0")
        _require("weight_decay", self.weight_decay, 0 <= self.weight_decay < math.inf, "at least 0")
        _require("adam_betas", self.adam_betas, all(0 <= beta < 1 for beta in self.adam_betas), "in [0, 1)")
        shortened = self.max_grad_norm
        _require("max_grad_norm", shortened, shortened is None or 0 < shortened < math.inf, "above 0, or absent")
        _require("validation_fraction", self.validation_fraction, 0 <= self.validation_fraction < 1, "in [0, 1)")
        if self.schedule not in SCHEDULES:
            hint = nearest(self.schedule, list(SCHEDULES))
            raise SettingError(f"no schedule is called '{self.schedule}'.", where="schedule", hint=hint)

    def total_steps(self, steps_per_epoch: int) -> int:
        """Updates in all."""
        steps = self.epochs * steps_per_epoch
        return steps if self.max_steps is None else min(steps, self.max_steps)

    def warmup(self, total_steps: int) -> int:
        """Updates of warm-up in a run of `total_steps`.

        Raises:
            SettingError: the run would end before its learning rate is reached.
        """
        if self.warmup_steps is None:
            return total_steps // 20
        if self.warmup_steps >= total_steps:
            raise SettingError(
                f"is {self.warmup_steps}, but the run has {total_steps} steps and would end before its learning rate.",
                where="warmup_steps",
                hint=f"Give at most {total_steps - 1}, or leave it out.",
            )
        return self.warmup_steps


def _require(name: str, value: object, holds: bool, range: str) -> None:
    if not holds:
        raise SettingError(f"must be {range}, not {value}.", where=name)
