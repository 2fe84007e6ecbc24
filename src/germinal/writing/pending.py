"""A request that is being answered: the sequences that run for it, and the texts that they grow into."""

from __future__ import annotations

from dataclasses import dataclass

from germinal.generation.engine import Engine
from germinal.generation.sampler import SampledToken
from germinal.generation.sequence import FinishReason, Sequence
from germinal.text.detokenizer import Detokenizer
from germinal.text.tokenizer import Tokenizer
from germinal.writing.request import Completion, Response, Usage


@dataclass(frozen=True, slots=True)
class Piece:
    """What is new in one answer.

    Attributes:
        index: Which of the request's answers.
        text: New text that may be shown.
        tokens: New tokens. Their text may come later: half a character is held back, and the start of a stop string.
        finish_reason: Why the answer has ended, or None if it goes on.
    """

    index: int
    text: str
    tokens: tuple[SampledToken, ...]
    finish_reason: FinishReason | None


class TextStream:
    """The text of one sequence as it grows. A stop string in it ends the sequence.

    Args:
        sequence: What generates.
        tokenizer: The model's.
        index: Which of its request's answers it is.

    Attributes:
        text: All text that may be shown so far.
    """

    def __init__(self, sequence: Sequence, tokenizer: Tokenizer, index: int = 0) -> None:
        self.sequence = sequence
        self.index = index
        self.text = ""
        self._detokenizer = Detokenizer(tokenizer, sequence.config.stop)
        self._read = 0  # tokens that have become text
        self._complete = False
        self._taken_text = self._taken_tokens = 0
        self._taken_end = False

    def advance(self, engine: Engine) -> None:
        """Bring the text up to date with the sequence; where a stop string appears, end the sequence."""
        while self._read < len(self.sequence.token_ids) and not self._detokenizer.stopped:
            self.text += self._detokenizer.push(self.sequence.token_ids[self._read])
            self._read += 1
        if self._detokenizer.stopped and self.sequence.finish_reason != "stop":
            engine.finish(self.sequence, "stop")
        if self.sequence.finished and not self._complete:
            self.text += self._detokenizer.finish()
            self._complete = True

    def take(self) -> Piece | None:
        """What is new since the last call; None where nothing is."""
        text, tokens = self.text[self._taken_text :], tuple(self.sequence.tokens[self._taken_tokens :])
        ends = self._complete and not self._taken_end
        self._taken_text += len(text)
        self._taken_tokens += len(tokens)
        self._taken_end = self._complete
        return Piece(self.index, text, tokens, self.sequence.finish_reason) if text or tokens or ends else None

    def completion(self) -> Completion:
        """The finished answer."""
        sequence = self.sequence
        assert sequence.finish_reason is not None
        logprobs = None if sequence.config.logprobs is None else tuple(sequence.tokens)
        usage = Usage(sequence.prompt_tokens, len(sequence.token_ids), sequence.cached_prompt_tokens)
        return Completion(self.text, tuple(sequence.token_ids), sequence.finish_reason, logprobs, usage)


@dataclass(frozen=True, slots=True, eq=False)
class Pending:
    """A request that is being answered; made by a `Writer` and run by a `Driver`.

    Attributes:
        lead: The sequence that computes the prompt; the others are its forks.
        streams: The generated answers.
        scored: The continuations to score.
        opening: Tokens at the start of every continuation that do not count in its score.
    """

    lead: Sequence
    streams: tuple[TextStream, ...]
    scored: tuple[Sequence, ...]
    opening: int = 0

    @property
    def sequences(self) -> tuple[Sequence, ...]:
        """All sequences, the lead first."""
        return (self.lead, *self.lead.forks)

    @property
    def finished(self) -> bool:
        """Whether all sequences have ended."""
        return all(sequence.finished for sequence in self.sequences)

    def advance(self, engine: Engine) -> None:
        """Bring the texts up to date with the sequences."""
        for stream in self.streams:
            stream.advance(engine)

    def take(self) -> list[Piece]:
        """What is new in the answers since the last call."""
        return [piece for stream in self.streams if (piece := stream.take()) is not None]

    def response(self) -> Response:
        """The response, once all sequences have ended."""
        return Response(
            completions=tuple(stream.completion() for stream in self.streams),
            scores=tuple(sum(sequence.target_logprobs[self.opening :]) for sequence in self.scored),
            prompt_tokens=self.lead.prompt_tokens,
            computed_tokens=sum(sequence.computed_tokens for sequence in self.sequences),
        )
