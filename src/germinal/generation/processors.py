"""Logits processors: what bends the model's next-token distribution before a token is chosen, in one fixed order.

    logit bias > repetition penalty > presence and frequency penalty > no repeated n-gram > fewest new tokens
    > forced tokens > temperature > top-k > top-p > min-p

This is the order of transformers (which has no presence and frequency penalties; these act on logits before the
temperature, as OpenAI and vLLM define them). Each processor equals transformers' of the same name on the same logits;
each cut works on the distribution that the one before it left.

Shapes: B sequences, V vocabulary. All work in float32 and return a new tensor; a row never depends on another row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol, Self

import torch
from torch import Tensor

from germinal.generation.config import GenerationConfig

_NUCLEUS = 512
"""How many of the likeliest tokens top-p looks at before it sorts them all."""


@dataclass(frozen=True, slots=True)
class History:
    """The tokens before those to choose, row by row.

    Attributes:
        prompts: Those of the prompts.
        answers: Those of the answers so far.
    """

    prompts: Sequence[Sequence[int]] = ()
    answers: Sequence[Sequence[int]] = ()

    def counts(self, logits: Tensor) -> Tensor:
        """How often each token stands in the answers, as numbers like logits [B, V]."""
        return _counts(self.answers, logits)

    def seen(self, logits: Tensor) -> Tensor:
        """Which tokens of logits [B, V] stand in prompt or answer."""
        return (_counts(self.prompts, logits) + _counts(self.answers, logits)) > 0


def _counts(rows: Sequence[Sequence[int]], logits: Tensor) -> Tensor:
    vocab_size = logits.shape[-1]
    counts = [torch.bincount(torch.tensor(tuple(ids), dtype=torch.long), minlength=vocab_size) for ids in rows]
    return torch.stack(counts).to(logits)


class Processor(Protocol):
    """One step from logits to logits."""

    name: ClassVar[str]

    def __call__(self, logits: Tensor, history: History) -> Tensor: ...

    def __str__(self) -> str: ...

    @classmethod
    def from_config(cls, config: GenerationConfig) -> Self | None:
        """The processor that the config asks for, or None."""


@dataclass(frozen=True, slots=True)
class LogitBias:
    """Add a number to the logits of chosen tokens."""

    name: ClassVar[str] = "logit_bias"
    bias: tuple[tuple[int, float], ...]

    def __call__(self, logits: Tensor, history: History) -> Tensor:
        ids, biases = zip(*self.bias, strict=True)
        index = torch.tensor(ids, device=logits.device)
        return logits.index_add(-1, index, logits.new_tensor(biases).expand(len(logits), -1))  # [B, V]

    def __str__(self) -> str:
        return f"logit_bias: {', '.join(f'{token} {bias:+g}' for token, bias in self.bias)}"

    @classmethod
    def from_config(cls, config: GenerationConfig) -> Self | None:
        return cls(config.logit_bias) if config.logit_bias is not None else None


@dataclass(frozen=True, slots=True)
class RepetitionPenalty:
    """Divide the positive logits of tokens seen in prompt or answer by the penalty, multiply the negative ones.

    CTRL (Keskar et al. 2019, arXiv 1909.05858), with transformers' rule for negative logits.
    """

    name: ClassVar[str] = "repetition_penalty"
    penalty: float

    def __call__(self, logits: Tensor, history: History) -> Tensor:
        penalised = torch.where(logits < 0, logits * self.penalty, logits / self.penalty)
        return torch.where(history.seen(logits), penalised, logits)

    def __str__(self) -> str:
        return f"repetition_penalty: {self.penalty:g}"

    @classmethod
    def from_config(cls, config: GenerationConfig) -> Self | None:
        return cls(config.repetition_penalty) if config.repetition_penalty is not None else None


@dataclass(frozen=True, slots=True)
class PresenceFrequencyPenalty:
    """OpenAI's penalties: logit - count x frequency - (count > 0) x presence, where only the answer is counted."""

    name: ClassVar[str] = "presence_frequency_penalty"
    presence: float
    frequency: float

    def __call__(self, logits: Tensor, history: History) -> Tensor:
        counts = history.counts(logits)
        return logits - self.frequency * counts - self.presence * (counts > 0)

    def __str__(self) -> str:
        return f"presence_penalty: {self.presence:g}, frequency_penalty: {self.frequency:g}"

    @classmethod
    def from_config(cls, config: GenerationConfig) -> Self | None:
        if config.presence_penalty is None and config.frequency_penalty is None:
            return None
        return cls(config.presence_penalty or 0.0, config.frequency_penalty or 0.0)


@dataclass(frozen=True, slots=True)
class NoRepeatNGram:
    """Ban the tokens that would complete an n-gram that stands in prompt or answer already (arXiv 1705.04304, 2.5)."""

    name: ClassVar[str] = "no_repeat_ngram_size"
    size: int

    def __call__(self, logits: Tensor, history: History) -> Tensor:
        logits = logits.clone()
        for row, (prompt, answer) in enumerate(zip(history.prompts, history.answers, strict=True)):
            ids = (*prompt, *answer)
            last = ids[len(ids) - self.size + 1 :]  # the n - 1 tokens that the next one follows
            starts = range(len(ids) - self.size + 1)
            banned = [ids[start + self.size - 1] for start in starts if ids[start : start + self.size - 1] == last]
            logits[row, banned] = -torch.inf
        return logits

    def __str__(self) -> str:
        return f"no_repeat_ngram_size: {self.size}"

    @classmethod
    def from_config(cls, config: GenerationConfig) -> Self | None:
        return cls(config.no_repeat_ngram_size) if config.no_repeat_ngram_size is not None else None


@dataclass(frozen=True, slots=True)
class MinNewTokens:
    """Ban the end of the answer before it has so many tokens."""

    name: ClassVar[str] = "min_new_tokens"
    count: int
    eos_ids: tuple[int, ...]

    def __call__(self, logits: Tensor, history: History) -> Tensor:
        short = [row for row, answer in enumerate(history.answers) if len(answer) < self.count]
        logits = logits.clone()
        for token in self.eos_ids:
            logits[short, token] = -torch.inf
        return logits

    def __str__(self) -> str:
        return f"min_new_tokens: {self.count}"

    @classmethod
    def from_config(cls, config: GenerationConfig) -> Self | None:
        if config.min_new_tokens is None or not config.eos_ids:
            return None
        return cls(config.min_new_tokens, config.eos_ids)


@dataclass(frozen=True, slots=True)
class ForcedTokens:
    """Leave one token alone as the first of the answer, and one as the last that `max_new_tokens` allows."""

    name: ClassVar[str] = "forced_tokens"
    first: int | None
    last: int | None
    max_new_tokens: int

    def __call__(self, logits: Tensor, history: History) -> Tensor:
        logits = logits.clone()
        for token, length in ((self.first, 0), (self.last, self.max_new_tokens - 1)):
            rows = [row for row, answer in enumerate(history.answers) if len(answer) == length]
            if token is not None and rows:
                logits[rows] = -torch.inf
                logits[rows, token] = 0.0
        return logits

    def __str__(self) -> str:
        return f"forced_tokens: first {self.first}, last {self.last}"

    @classmethod
    def from_config(cls, config: GenerationConfig) -> Self | None:
        if config.forced_bos_id is None and config.forced_eos_id is None:
            return None
        return cls(config.forced_bos_id, config.forced_eos_id, config.max_new_tokens)


@dataclass(frozen=True, slots=True)
class Temperature:
    """Divide all logits: below 1 the distribution gets sharper, above 1 flatter."""

    name: ClassVar[str] = "temperature"
    temperature: float

    def __call__(self, logits: Tensor, history: History) -> Tensor:
        return logits / self.temperature

    def __str__(self) -> str:
        return f"temperature: {self.temperature:g}"

    @classmethod
    def from_config(cls, config: GenerationConfig) -> Self | None:
        return cls(config.temperature) if config.temperature not in (0.0, 1.0) else None


@dataclass(frozen=True, slots=True)
class TopK:
    """Keep the k largest logits; those equal to the k-th stay too (Fan et al. 2018, arXiv 1805.04833)."""

    name: ClassVar[str] = "top_k"
    k: int

    def __call__(self, logits: Tensor, history: History) -> Tensor:
        border = logits.topk(min(self.k, logits.shape[-1])).values[:, -1:]  # [B, 1]
        return logits.masked_fill(logits < border, -torch.inf)

    def __str__(self) -> str:
        return f"top_k: {self.k}"

    @classmethod
    def from_config(cls, config: GenerationConfig) -> Self | None:
        return cls(config.top_k) if config.top_k is not None else None


@dataclass(frozen=True, slots=True)
class TopP:
    """Keep the fewest likeliest tokens whose probabilities reach p (nucleus sampling, arXiv 1904.09751).

    Among equal logits at the border the lower ids stay (transformers leaves that to an unstable sort). Where it sorts
    the whole vocabulary, we look at the likeliest few hundred first, which mostly reach p and are quicker to find.
    """

    name: ClassVar[str] = "top_p"
    p: float

    def __call__(self, logits: Tensor, history: History) -> Tensor:
        vocab_size = logits.shape[-1]
        for looked_at in (min(_NUCLEUS, vocab_size), vocab_size):
            likeliest = logits.topk(looked_at, dim=-1).values  # [B, looked_at], descending
            probabilities = (likeliest.double() - logits.logsumexp(dim=-1, keepdim=True)).exp()
            mass_above = probabilities.cumsum(dim=-1) - probabilities
            kept = (mass_above < self.p).sum(dim=-1, keepdim=True).clamp(min=1)  # [B, 1], how many tokens stay
            if bool((kept < looked_at).all()):
                break
        border = likeliest.gather(-1, kept - 1)  # [B, 1]
        cut = logits < border
        surplus = vocab_size - cut.sum(dim=-1, keepdim=True) - kept  # equal to the border, but one too many
        if bool((surplus > 0).any()):
            equal = logits == border
            cut |= equal & (equal.cumsum(dim=-1) > equal.sum(dim=-1, keepdim=True) - surplus)
        return logits.masked_fill(cut, -torch.inf)

    def __str__(self) -> str:
        return f"top_p: {self.p:g}"

    @classmethod
    def from_config(cls, config: GenerationConfig) -> Self | None:
        return cls(config.top_p) if config.top_p is not None else None


@dataclass(frozen=True, slots=True)
class MinP:
    """Drop tokens less likely than a fraction of the likeliest one (Nguyen et al. 2024, arXiv 2407.01082)."""

    name: ClassVar[str] = "min_p"
    p: float

    def __call__(self, logits: Tensor, history: History) -> Tensor:
        probabilities = logits.softmax(dim=-1)  # [B, V]
        top = probabilities.amax(dim=-1, keepdim=True)
        return logits.masked_fill(probabilities < self.p * top, -torch.inf)

    def __str__(self) -> str:
        return f"min_p: {self.p:g}"

    @classmethod
    def from_config(cls, config: GenerationConfig) -> Self | None:
        return cls(config.min_p) if config.min_p is not None else None


PROCESSORS: tuple[type[Processor], ...] = (
    LogitBias,
    RepetitionPenalty,
    PresenceFrequencyPenalty,
    NoRepeatNGram,
    MinNewTokens,
    ForcedTokens,
    Temperature,
    TopK,
    TopP,
    MinP,
)
"""All processors, in the order in which they act."""


def processors_for(config: GenerationConfig) -> tuple[Processor, ...]:
    """The processors that a config asks for, in the order in which they act."""
    made = (kind.from_config(config) for kind in PROCESSORS)
    return tuple(processor for processor in made if processor is not None)


def describe(config: GenerationConfig) -> list[str]:
    """One line for each processor in use, in order, and one that says how the token is then chosen."""
    chosen = "greedy: the likeliest token" if config.greedy else "sample: one token by its probability"
    if config.num_beams > 1:
        chosen = f"beam search: the likeliest answer along {config.num_beams} beams"
    return [*map(str, processors_for(config)), chosen]
