"""Choosing the next token: one `Sampler` a sequence, `choose_batch` for a whole step.

A sampled token is found by inverting the cumulative distribution at one uniform number, drawn from a generator that
belongs to the sequence and is seeded by (seed, index of the answer). So a sequence draws the same numbers whatever its
company, on any device. Log-probabilities that are reported are those of the model itself, before bias, penalties,
temperature and cuts.

Shapes: B sequences, V vocabulary.
"""

from __future__ import annotations

import hashlib
import secrets
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from germinal.errors import CheckpointError
from germinal.generation.config import GenerationConfig
from germinal.generation.processors import History, Processor, processors_for

_BLOCK = 256
"""Tokens of the vocabulary that are summed together before one is looked for."""


@dataclass(frozen=True, slots=True)
class SampledToken:
    """A chosen token.

    Attributes:
        id: The token's id.
        logprob: Its log-probability under the model itself; None unless the config asks for log-probabilities.
        top_logprobs: (id, log-probability) of the likeliest tokens, likeliest first; as many as the config asks for.
    """

    id: int
    logprob: float | None = None
    top_logprobs: tuple[tuple[int, float], ...] = ()


class Sampler:
    """How one sequence chooses its tokens.

    Args:
        config: The settings; `n` is not looked at, each of n answers has a sampler of its own.
        prompt_ids: The prompt, which the repetition penalty counts too.
        index: Which of n answers this is: each draws from a stream of its own.

    Attributes:
        prompt_ids: The prompt.
        seed: The config's seed, or the random one drawn in its place, so that it can be recorded.
        processors: What is done to the logits, in order.
    """

    def __init__(self, config: GenerationConfig, prompt_ids: Sequence[int] = (), index: int = 0) -> None:
        self.config = config
        self.processors = processors_for(config)
        self.seed = secrets.randbits(63) if config.seed is None else config.seed
        self.prompt_ids = tuple(prompt_ids)
        self._generator: torch.Generator | None = None
        if not config.greedy:
            self._generator = torch.Generator().manual_seed(_stream_seed(self.seed, index))

    def uniform(self) -> float:
        """The sequence's next number in [0, 1)."""
        assert self._generator is not None, "a greedy sampler draws nothing"
        return torch.rand((), generator=self._generator, dtype=torch.float64).item()


def choose_batch(logits: Tensor, samplers: Sequence[Sampler], answers: Sequence[Sequence[int]]) -> list[SampledToken]:
    """Choose one token for each row.

    When all are plain greedy this is one argmax; log-probabilities are worked out only for the rows that ask for them.
    Rows with the same processors are processed together.

    Args:
        logits: [B, V], any float type.
        samplers: One a row.
        answers: Each row's generated tokens so far.

    Raises:
        CheckpointError: the model's logits are not numbers.
    """
    logits = logits.float()
    largest, ids = logits.max(dim=-1)  # [B] each; the first of equal ones
    check_finite(largest)
    for (processors, greedy), rows in _groups(samplers).items():
        if greedy and not processors:
            continue
        chosen = [samplers[row] for row in rows]
        wanted = logits if len(rows) == len(logits) else logits[rows]
        history = History([sampler.prompt_ids for sampler in chosen], [answers[row] for row in rows])
        left = processed(wanted, processors, history)
        ids[rows] = left.argmax(dim=-1) if greedy else _draw(left, chosen)
    return _with_logprobs(logits, ids, samplers)


def check_finite(logits: Tensor) -> None:
    """Refuse a model whose largest logits are no numbers.

    Raises:
        CheckpointError: they are not finite.
    """
    if not bool(torch.isfinite(logits).all()):
        raise CheckpointError(
            "the model's logits are not finite numbers.",
            hint="Its weights are damaged, or overflow in this precision: try precision float32.",
        )


def processed(logits: Tensor, processors: Sequence[Processor], history: History) -> Tensor:
    """What processors leave of logits [B, V]."""
    for processor in processors:
        logits = processor(logits, history)
    return logits


def _groups(samplers: Sequence[Sampler]) -> dict[tuple[tuple[Processor, ...], bool], list[int]]:
    """Row numbers by what is done to the rows' logits and whether the largest is then taken."""
    groups: dict[tuple[tuple[Processor, ...], bool], list[int]] = defaultdict(list)
    for row, sampler in enumerate(samplers):
        groups[sampler.processors, sampler.config.greedy].append(row)
    return groups


def _draw(logits: Tensor, samplers: Sequence[Sampler]) -> Tensor:
    """One token id a row [B], by the probabilities of the logits [B, V].

    First the block of the vocabulary is found, then the token in it: one cumulative sum over the whole vocabulary would
    take longer than all else here.
    """
    if logits.device.type == "cpu" and len(logits) > 1:  # a row's temporaries are small enough to be used again
        return torch.cat([_draw(logits[row : row + 1], [sampler]) for row, sampler in enumerate(samplers)])
    probabilities = logits.softmax(dim=-1)
    padding = -probabilities.shape[-1] % _BLOCK
    blocks = pad(probabilities, (0, padding)).view(len(logits), -1, _BLOCK)  # [B, V / _BLOCK, _BLOCK]
    cumulative = blocks.sum(dim=-1, dtype=torch.float64).cumsum(dim=-1)  # [B, V / _BLOCK]
    uniform = cumulative.new_tensor([[sampler.uniform()] for sampler in samplers])  # [B, 1]
    block, rest = _invert(cumulative, uniform * cumulative[:, -1:])
    within = blocks.take_along_dim(block.unsqueeze(-1), dim=1).squeeze(1).double().cumsum(dim=-1)  # [B, _BLOCK]
    token, _ = _invert(within, rest)
    return (block * _BLOCK + token).squeeze(-1)


def _invert(cumulative: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """For each row the place at which a cumulative sum [B, N] first exceeds the target [B, 1], and the target's rest
    beyond the sum before that place.

    The target is kept below the whole sum, as rounding may bring it there: so what is found has a part in the sum.
    """
    total = cumulative[:, -1:]
    target = torch.minimum(target, torch.nextafter(total, torch.zeros_like(total)))
    place = torch.searchsorted(cumulative, target, right=True)
    before = cumulative.gather(-1, (place - 1).clamp(min=0)) * (place > 0)
    return place, target - before


def _with_logprobs(logits: Tensor, ids: Tensor, samplers: Sequence[Sampler]) -> list[SampledToken]:
    tokens = [SampledToken(token) for token in ids.tolist()]
    asked = [row for row, sampler in enumerate(samplers) if sampler.config.logprobs is not None]
    if not asked:
        return tokens
    logprobs = logits[asked].log_softmax(dim=-1)  # [asked, V]
    chosen = logprobs.gather(-1, ids[asked].unsqueeze(-1)).squeeze(-1).tolist()
    most = max(samplers[row].config.logprobs or 0 for row in asked)
    values, top_ids = (part.tolist() for part in logprobs.topk(min(most, logits.shape[-1]), dim=-1))
    for place, row in enumerate(asked):
        count = samplers[row].config.logprobs or 0
        top = tuple(zip(top_ids[place][:count], values[place][:count], strict=True))
        tokens[row] = SampledToken(tokens[row].id, chosen[place], top)
    return tokens


def _stream_seed(seed: int, index: int) -> int:
    """63 bits that no other pair of seed and index shares, so that answer 1 of seed 0 is not answer 0 of seed 1."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{index}".encode()).digest()[:8], "big") >> 1
