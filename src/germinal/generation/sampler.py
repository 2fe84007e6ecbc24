"""Choosing the next token: one `Sampler` per sequence, and `choose_batch` for all sequences of a step.

A token is sampled by inverting the cumulative distribution at a uniform random number. Each sequence draws these from a
generator of its own, seeded by (seed, prompt, number of the answer to that prompt): different prompts get independent
numbers, and an answer is the same in any batch, at any place of a list and on any device.
Reported log-probabilities are those of the model itself, before bias, penalties, temperature and cuts.

Shapes: B sequences, V vocabulary.
"""

from __future__ import annotations

import hashlib
import secrets
from array import array
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from germinal.errors import CheckpointError
from germinal.generation.config import GenerationConfig
from germinal.generation.processors import History, Processor, processors_for

STREAMS = 2
"""Version of what a sequence's generator is seeded by: part of the keys of stored answers that are sampled."""

_BLOCK = 256
"""Size of the vocabulary blocks whose probabilities are summed first when a token is sampled."""


@dataclass(frozen=True, slots=True)
class SampledToken:
    """A chosen token.

    Attributes:
        id: The token's id.
        logprob: Its log-probability under the model itself, in nats; None unless the config asks for it.
        top_logprobs: (id, log-probability) of as many of the likeliest tokens as the config asks for, likeliest first.
    """

    id: int
    logprob: float | None = None
    top_logprobs: tuple[tuple[int, float], ...] = ()


class Sampler:
    """How one sequence chooses its tokens.

    Args:
        config: The settings; `n` is not used, as each answer has its own sampler.
        prompt_ids: The prompt, which some processors read.
        index: Number of this answer among several to one prompt; each has its own random numbers.
        drawn_for: What stands for the prompt in the seed; None takes `prompt_ids`. For an encoder-decoder it is what
            the encoder reads, as all its answers begin alike.

    Attributes:
        seed: The config's seed, or else a random one.
        processors: The processors of the logits, in order.
    """

    def __init__(
        self,
        config: GenerationConfig,
        prompt_ids: Sequence[int] = (),
        index: int = 0,
        drawn_for: Sequence[int] | None = None,
    ) -> None:
        self.config = config
        self.processors = processors_for(config)
        self.seed = secrets.randbits(63) if config.seed is None else config.seed
        self.prompt_ids = tuple(prompt_ids)
        self._generator: torch.Generator | None = None
        if not config.greedy:
            self._generator = torch.Generator().manual_seed(
                _stream_seed(self.seed, self.prompt_ids if drawn_for is None else drawn_for, index)
            )

    def uniform(self) -> float:
        """The next random number of the sequence, in [0, 1)."""
        assert self._generator is not None, "a greedy sampler draws nothing"
        return torch.rand((), generator=self._generator, dtype=torch.float64).item()


def choose_batch(logits: Tensor, samplers: Sequence[Sampler], answers: Sequence[Sequence[int]]) -> list[SampledToken]:
    """Choose one token for each row.

    Rows with the same processors are processed together; greedy rows without processors need a single argmax.

    Args:
        logits: [B, V], any float type.
        samplers: One per row.
        answers: The tokens generated so far, per row.

    Raises:
        CheckpointError: the logits are not finite.
    """
    logits = logits.float()
    largest, ids = logits.max(dim=-1)  # [B] each; the first of equal ones
    check_finite(largest)
    groups: dict[tuple[tuple[Processor, ...], bool], list[int]] = defaultdict(list)
    for row, sampler in enumerate(samplers):
        if sampler.processors or not sampler.config.greedy:
            groups[sampler.processors, sampler.config.greedy].append(row)
    for (processors, greedy), rows in groups.items():
        chosen = [samplers[row] for row in rows]
        wanted = logits if len(rows) == len(logits) else logits[rows]
        history = History([sampler.prompt_ids for sampler in chosen], [answers[row] for row in rows])
        left = processed(wanted, processors, history)
        ids[rows] = left.argmax(dim=-1) if greedy else _draw(left, chosen)
    return _with_logprobs(logits, ids, samplers)


def check_finite(logits: Tensor) -> None:
    """Check that each row's largest logit is finite.

    Raises:
        CheckpointError: one is not.
    """
    if not bool(torch.isfinite(logits).all()):
        raise CheckpointError(
            "the model's logits are not finite numbers.",
            hint="Its weights are damaged, or overflow in this precision: try precision float32.",
        )


def processed(logits: Tensor, processors: Sequence[Processor], history: History) -> Tensor:
    """Apply processors to logits [B, V], in order."""
    for processor in processors:
        logits = processor(logits, history)
    return logits


def _draw(logits: Tensor, samplers: Sequence[Sampler]) -> Tensor:
    """Sample one token id per row [B] from logits [B, V].

    The block of the vocabulary is found first, then the token in it, because a cumulative sum over the whole vocabulary
    would dominate the time of this function.
    """
    if logits.device.type == "cpu" and len(logits) > 1:  # row by row, so that temporaries stay small and are reused
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
    """Where each row of a cumulative sum [B, N] first exceeds its target [B, 1], and the target minus the sum up to
    there, [B, 1] each.

    The target is kept below the total, which rounding might make it reach, so that an entry above 0 is found.
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


def _stream_seed(seed: int, prompt_ids: Sequence[int], index: int) -> int:
    """A hash of the three, 63 bits. Sums would give answer 1 of seed 0 the numbers of answer 0 of seed 1."""
    hashed = hashlib.sha256(f"{seed}/{index}/".encode())
    hashed.update(array("q", prompt_ids).tobytes())
    return int.from_bytes(hashed.digest()[:8], "big") >> 1
