"""The next-token distribution, step by step: from the model's logits through each processor to what is drawn from.

The steps are the processors that generation itself uses, in their order. V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from germinal.generation.config import GenerationConfig
from germinal.generation.processors import History, describe, processors_for


@dataclass(frozen=True, slots=True)
class Stage:
    """The distribution after one step.

    Attributes:
        name: "model", or the processor's name.
        text: What the step is, with its settings.
        logits: float32 [V]; -inf where a token was cut.
        probabilities: float32 [V]; exactly 0 where a token was cut.
        cut: Token ids that this step cut away, likeliest first.
        cut_mass: The probability that they held before it, from 0 to 1.
    """

    name: str
    text: str
    logits: Tensor
    probabilities: Tensor
    cut: tuple[int, ...] = ()
    cut_mass: float = 0.0

    @property
    def left(self) -> int:
        """How many tokens can still be drawn."""
        return int(torch.isfinite(self.logits).sum())

    @property
    def entropy(self) -> float:
        """How undecided the distribution is, in bits: 0 is sure, n is like a choice among 2^n equals."""
        return float(torch.special.entr(self.probabilities.double()).sum()) / math.log(2)


@dataclass(frozen=True, slots=True)
class NextTokenDistribution:
    """How the next token is chosen.

    Attributes:
        stages: The model's own distribution, then what each processor in use made of it.
        config: The settings.
        steps: The processors and the final choice in words, in order.
    """

    stages: tuple[Stage, ...]
    config: GenerationConfig
    steps: tuple[str, ...]

    @property
    def logits(self) -> Tensor:
        """The model's own logits, [V]."""
        return self.stages[0].logits

    @property
    def probabilities(self) -> Tensor:
        """What a token is drawn from, [V]; greedy decoding takes the largest."""
        return self.stages[-1].probabilities

    def top(self, count: int) -> list[tuple[int, float]]:
        """(id, probability) of the likeliest tokens after all steps; those that were cut are left out."""
        values, ids = self.probabilities.topk(min(count, self.stages[-1].left))
        return list(zip(ids.tolist(), values.tolist(), strict=True))


def next_token_distribution(
    logits: Tensor, config: GenerationConfig, prompt_ids: Sequence[int] = (), answer_ids: Sequence[int] = ()
) -> NextTokenDistribution:
    """What becomes of a model's logits on their way to the next token of an answer.

    Args:
        logits: [V].
        config: The settings.
        prompt_ids: The prompt, which some processors count.
        answer_ids: The answer so far, which others count.
    """
    current = logits.float().unsqueeze(0)  # [1, V]
    history = History([prompt_ids], [answer_ids])
    stages = [Stage("model", "the model's own probabilities", current[0], current[0].softmax(-1))]
    for processor in processors_for(config):
        before = stages[-1]
        current = processor(current, history)
        lost = torch.isfinite(before.logits) & ~torch.isfinite(current[0])
        ids = lost.nonzero()[:, 0]
        ids = ids[before.probabilities[ids].argsort(descending=True, stable=True)]
        stages.append(
            Stage(
                name=processor.name,
                text=str(processor),
                logits=current[0],
                probabilities=current[0].softmax(-1),
                cut=tuple(ids.tolist()),
                cut_mass=float(before.probabilities[lost].double().sum()),
            )
        )
    return NextTokenDistribution(tuple(stages), config, tuple(describe(config)))
