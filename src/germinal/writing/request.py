"""What is asked of a model that writes, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass

from germinal.generation.config import GenerationConfig
from germinal.generation.sampler import SampledToken
from germinal.generation.sequence import FinishReason


@dataclass(frozen=True, slots=True)
class Request:
    """What is wanted after one prompt. The prompt is computed once for all answers and continuations.

    Attributes:
        prompt_ids: Token ids of the prompt.
        generation: Settings for generated answers; None generates nothing. Their `n` is not looked at.
        continuations: Token ids of each continuation to score.
        adapter: Name of the adapter that the tokens go through; None is the model without one.
        answers: How many answers to generate, at least 1; each draws its own random numbers.
        first: Number of the first of them among all answers to this prompt, where another request asks for others.
    """

    prompt_ids: tuple[int, ...]
    generation: GenerationConfig | None = None
    continuations: tuple[tuple[int, ...], ...] = ()
    adapter: str | None = None
    answers: int = 1
    first: int = 0


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens that an answer took.

    Attributes:
        prompt_tokens: Length of the prompt.
        completion_tokens: Length of the answer.
        cached_tokens: Tokens of the prompt that were in the cache already, because another prompt began with them.
    """

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int


@dataclass(frozen=True, slots=True)
class Completion:
    """A generated answer.

    Attributes:
        text: The answer, ending before a stop string.
        token_ids: Its tokens, without the end-of-sequence token.
        finish_reason: "stop" (the model or a stop string ended it), "length" or "cancelled".
        logprobs: Each token's log-probability, in nats, and those of its likeliest rivals; None unless the setting
            `logprobs` asked for them.
        usage: Tokens it took.
    """

    text: str
    token_ids: tuple[int, ...]
    finish_reason: FinishReason
    logprobs: tuple[SampledToken, ...] | None
    usage: Usage


@dataclass(frozen=True, slots=True)
class Response:
    """The answer to a `Request`.

    Attributes:
        completions: The generated answers; empty if none were asked for.
        scores: Log-probability of each continuation given the prompt, in nats, at most 0.
        prompt_tokens: Length of the prompt.
        computed_tokens: Tokens that went through the network. A prefix that requests share counts once, for the request
            that computed it.
    """

    completions: tuple[Completion, ...]
    scores: tuple[float, ...]
    prompt_tokens: int
    computed_tokens: int

    @property
    def completion(self) -> Completion | None:
        """The first generated answer, or None if none was asked for."""
        return self.completions[0] if self.completions else None
