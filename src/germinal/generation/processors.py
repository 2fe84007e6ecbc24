"""Logits processors: they change the next-token distribution before a token is chosen, in one fixed order.

    logit bias > repetition penalty > presence and frequency penalty > no repeated n-gram > fewest new tokens
    > forced tokens > temperature > top-k > top-p > min-p

This is the order of transformers (which has no presence and frequency penalties; these act on logits before the
temperature, as OpenAI and vLLM define them). Each processor equals transformers' of the same name on the same logits.
Top-k, top-p and min-p each work on the distribution left by the one before.

Shapes: B sequences, V vocabulary. All work in float32 and return a new tensor; rows are independent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol, Self

import torch
from torch import Tensor

from germinal.generation.config import GenerationConfig

_NUCLEUS = 512
"""How many of the likeliest tokens top-p sorts before it sorts the whole vocabulary."""


@dataclass(frozen=True, slots=True)
class History:
    """The tokens so far.

    Attributes:
        prompts: The prompt of each row.
        answers: The tokens generated so far, of each row.
    """

    prompts: Sequence[Sequence[int]] = ()
    answers: Sequence[Sequence[int]] = ()

    def counts(self, logits: Tensor) -> Tensor:
        """How often each token occurs in the answer, [B, V] in the type and on the device of `logits`."""
        return _counts(self.answers, logits)

    def seen(self, logits: Tensor) -> Tensor:
        """Which tokens occur in the prompt or the answer, bool [B, V]."""
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
        """The processor with the settings of the config, or None if the config does not use it."""


@dataclass(frozen=True, slots=True)
class LogitBias:
    """Add a number to the logits of given tokens."""

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
    """OpenAI's penalties: logit - count x frequency - (count > 0) x presence, with counts in the answer only."""

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
    """Ban tokens that would repeat an n-gram of prompt or answer (Paulus et al. 2017, arXiv 1705.04304, 2.5)."""

    name: ClassVar[str] = "no_repeat_ngram_size"
    size: int

    def __call__(self, logits: Tensor, history: History) -> Tensor:
        logits = logits.clone()
        for row, (prompt, answer) in enumerate(zip(history.prompts, history.answers, strict=True)):
            ids = (*prompt, *answer)
            last = ids[len(ids) - self.size + 1 :]  # the n - 1 tokens before the next one
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
    """Ban end-of-sequence tokens until the answer has `count` tokens."""

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
    """Force the first token of the answer, and the last one that `max_new_tokens` allows."""

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
    """Keep the smallest set of likeliest tokens whose probabilities reach p (nucleus sampling, arXiv 1904.09751).

    Among equal logits at the border, lower ids are kept (in transformers, an unstable sort decides). transformers sorts
    the whole vocabulary; we first try the likeliest few hundred tokens, which usually reach p and are found faster.
    """

    name: ClassVar[str] = "top_p"
    p: float

    def __call__(self, logits: Tensor, history: History) -> Tensor:
        vocab_size = logits.shape[-1]
        for looked_at in (min(_NUCLEUS, vocab_size), vocab_size):
            likeliest = logits.topk(looked_at, dim=-1).values  # [B, looked_at], descending
            top = likeliest[:, :1]  # subtracted first: the sum of large logits is too coarse in float32
            probabilities = ((likeliest - top).double() - (logits - top).logsumexp(dim=-1, keepdim=True)).exp()
            mass_above = probabilities.cumsum(dim=-1) - probabilities
            kept = (mass_above < self.p).sum(dim=-1, keepdim=True).clamp(min=1)  # [B, 1], how many tokens stay
            if bool((kept < looked_at).all()):
                break
        border = likeliest.gather(-1, kept - 1)  # [B, 1]
        cut = logits < border
        surplus = vocab_size - cut.sum(dim=-1, keepdim=True) - kept  # tokens equal to the border that must go
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
"""All processors, in the order in which they are applied."""


def processors_for(config: GenerationConfig) -> tuple[Processor, ...]:
    """The processors that a config uses, in the order in which they are applied."""
    made = (kind.from_config(config) for kind in PROCESSORS)
    return tuple(processor for processor in made if processor is not None)


def describe(config: GenerationConfig) -> list[str]:
    """One line for each processor that a config uses, in order, and one for how the token is chosen."""
    chosen = "greedy: the likeliest token" if config.greedy else "sample: one token by its probability"
    if config.num_beams > 1:
        chosen = f"beam search: the likeliest answer along {config.num_beams} beams"
    return [*map(str, processors_for(config)), chosen]
