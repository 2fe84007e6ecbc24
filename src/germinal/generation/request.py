"""What is asked of a model that writes, and what comes of it.

A `Request` is `Pending` while its sequences run, and ends as a `Response`; a `TextStream` makes a sequence's tokens
text, and a `Completion` is that text when it is whole.
"""

from __future__ import annotations

from dataclasses import dataclass

from germinal.generation.config import GenerationConfig
from germinal.generation.engine import Engine
from germinal.generation.sampler import SampledToken
from germinal.generation.sequence import FinishReason, Sequence
from germinal.text.detokenizer import Detokenizer
from germinal.text.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens that an answer took.

    Attributes:
        prompt_tokens: Length of the prompt.
        completion_tokens: Length of the answer.
        cached_tokens: Prompt tokens that were not computed again, because another prompt began with them.
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
        logprobs: Each token's log-probability and its likeliest rivals, when the setting `logprobs` asked for them.
        usage: Tokens it took.
    """

    text: str
    token_ids: tuple[int, ...]
    finish_reason: FinishReason
    logprobs: tuple[SampledToken, ...] | None
    usage: Usage


@dataclass(frozen=True, slots=True)
class Request:
    """What is wanted after one prompt; generation and all continuations cost the prompt once.

    Attributes:
        prompt_ids: The prompt.
        generation: Generate with these settings (`n` counts as 1).
        continuations: Score these, each the token ids of one continuation.
        adapter: Name of the adapter to go through.
    """

    prompt_ids: tuple[int, ...]
    generation: GenerationConfig | None = None
    continuations: tuple[tuple[int, ...], ...] = ()
    adapter: str | None = None


@dataclass(frozen=True, slots=True)
class Response:
    """The answer to a `Request`.

    Attributes:
        completion: The generated answer, if one was asked for.
        scores: Log-probability of each continuation given the prompt, in nats, at most 0.
        prompt_tokens: Length of the prompt.
        computed_tokens: Tokens that went through the network; those of a shared prefix count once, where they ran.
    """

    completion: Completion | None
    scores: tuple[float, ...]
    prompt_tokens: int
    computed_tokens: int


class TextStream:
    """A sequence with its text, which ends it at a stop string.

    Attributes:
        text: What may be shown so far.
    """

    def __init__(self, sequence: Sequence, tokenizer: Tokenizer) -> None:
        self.sequence = sequence
        self.text = ""
        self._detokenizer = Detokenizer(tokenizer, sequence.config.stop)
        self._read = 0
        self._ended = False

    def advance(self, engine: Engine) -> str:
        """Read the sequence's new tokens; the new text. Where a stop string appears the sequence ends."""
        piece = ""
        while self._read < len(self.sequence.token_ids) and not self._detokenizer.stopped:
            piece += self._detokenizer.push(self.sequence.token_ids[self._read])
            self._read += 1
        if self._detokenizer.stopped and self.sequence.finish_reason != "stop":
            engine.finish(self.sequence, "stop")
        if self.sequence.finished and not self._ended:
            piece += self._detokenizer.finish()
            self._ended = True
        self.text += piece
        return piece

    def completion(self) -> Completion:
        """The finished answer."""
        sequence = self.sequence
        assert sequence.finish_reason is not None
        logprobs = None if sequence.config.logprobs is None else tuple(sequence.tokens)
        usage = Usage(sequence.prompt_tokens, len(sequence.token_ids), sequence.cached_prompt_tokens)
        return Completion(self.text, tuple(sequence.token_ids), sequence.finish_reason, logprobs, usage)


@dataclass(frozen=True, slots=True)
class Pending:
    """A request on its way: the sequences that it became, for whoever runs them.

    Attributes:
        lead: The sequence to give the engine; the others follow it.
        stream: The text that is generated, if one was asked for.
        scored: The continuations, in their order.
        opening: Tokens that every continuation begins with and that do not count in its score.
    """

    lead: Sequence
    stream: TextStream | None
    scored: tuple[Sequence, ...]
    opening: int = 0

    @property
    def finished(self) -> bool:
        return self.lead.finished and all(fork.finished for fork in self.lead.forks)

    def response(self) -> Response:
        sequences = (self.lead, *self.lead.forks)
        return Response(
            completion=None if self.stream is None else self.stream.completion(),
            scores=tuple(sum(sequence.target_logprobs[self.opening :]) for sequence in self.scored),
            prompt_tokens=self.lead.prompt_tokens,
            computed_tokens=sum(sequence.computed_tokens for sequence in sequences),
        )
