"""The next-token distribution, step by step: from the model's logits through each processor to the final one.

The steps are the processors of generation, in the same order. V vocabulary.
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
        text: The step and its settings, in words.
        logits: float32 [V]; -inf for removed tokens.
        probabilities: float32 [V]; exactly 0 for removed tokens.
        cut: Ids of the tokens that this step removed, likeliest first.
        cut_mass: Their total probability before this step, from 0 to 1.
    """

    name: str
    text: str
    logits: Tensor
    probabilities: Tensor
    cut: tuple[int, ...] = ()
    cut_mass: float = 0.0

    @property
    def left(self) -> int:
        """Number of tokens that can still be drawn."""
        return int(torch.isfinite(self.logits).sum())

    @property
    def entropy(self) -> float:
        """Entropy of the distribution in bits: 0 is certain, n is like a uniform choice among 2^n tokens."""
        return float(torch.special.entr(self.probabilities.double()).sum()) / math.log(2)


@dataclass(frozen=True, slots=True)
class NextTokenDistribution:
    """How the next token is chosen.

    Attributes:
        stages: The model's own distribution, then the one after each processor in use.
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
        """The probabilities that a token is drawn by, [V]; greedy decoding takes the largest."""
        return self.stages[-1].probabilities

    def top(self, count: int) -> list[tuple[int, float]]:
        """(id, probability) of the likeliest tokens after all steps, without removed ones."""
        values, ids = self.probabilities.topk(min(count, self.stages[-1].left))
        return list(zip(ids.tolist(), values.tolist(), strict=True))


def next_token_distribution(
    logits: Tensor, config: GenerationConfig, prompt_ids: Sequence[int] = (), answer_ids: Sequence[int] = ()
) -> NextTokenDistribution:
    """Apply a config's processors to a model's logits, and keep the distribution after each.

    Args:
        logits: [V].
        config: The settings.
        prompt_ids: The prompt, which some processors use.
        answer_ids: The answer so far, which some processors use.
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
