"""What can be set about a training run. No torch is needed to say it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from germinal.errors import SettingError, nearest
from germinal.training.schedules import SCHEDULES


@dataclass(frozen=True, slots=True)
class TrainingConfig:
    """Settings of `germinal.training.loop.train`; every one of them bears on the result except `save_every`.

    A field's help is what the command line says of its option.

    Raises:
        SettingError: a value is out of range.
    """

    epochs: int = field(default=1, metadata={"help": "Times that every training example is seen."})
    max_steps: int | None = field(
        default=None, metadata={"help": "Stop after this many updates, even if the epochs are not over."}
    )
    micro_batch_size: int = field(default=8, metadata={"help": "Examples that go through the network at once."})
    gradient_accumulation_steps: int = field(
        default=1, metadata={"help": "Micro-batches to one update; the gradient is that of the one big batch."}
    )
    learning_rate: float = field(default=1e-3, metadata={"help": "Highest learning rate of AdamW."})
    schedule: str = field(
        default="cosine",
        metadata={"help": "The learning rate after the warm-up: constant, or linear or cosine down to zero."},
    )
    warmup_steps: int | None = field(
        default=None, metadata={"help": "Updates in which the learning rate rises from zero, 5% of all by default."}
    )
    weight_decay: float = field(
        default=0.0, metadata={"help": "Decoupled decay of weight matrices; norms and biases have none."}
    )
    adam_betas: tuple[float, float] = field(
        default=(0.9, 0.999), metadata={"help": "Decay of AdamW's two running means."}
    )
    max_grad_norm: float | None = field(
        default=1.0, metadata={"help": "A gradient of a larger norm is scaled down to it."}
    )
    seed: int = field(
        default=0, metadata={"help": "Seed of the order of examples, dropout, the validation part and fresh weights."}
    )
    validation_fraction: float = field(
        default=0.1,
        metadata={"help": "Share of the examples, below 1, that is held out to choose the best checkpoint."},
    )
    evaluate_every: int | None = field(
        default=None,
        metadata={"help": "Updates between two measurements of the validation loss, half an epoch by default."},
    )
    save_every: int = field(
        default=10, metadata={"help": "Updates between two checkpoints: what is lost when the run is killed."}
    )

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


HEAD_TRAINING = TrainingConfig(epochs=3, micro_batch_size=16, learning_rate=5e-5)
"""What suits most encoders that learn a head for classes, on some thousand examples."""
