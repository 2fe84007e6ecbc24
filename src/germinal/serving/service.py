"""What can be served: one interface, behind which stands a model or a project's winner."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from germinal.serving.requests import ChatRequest


@dataclass(frozen=True, slots=True)
class Delta:
    """What comes next of one choice.

    Attributes:
        index: Which choice.
        text: More of its text.
        logprobs: OpenAI's objects for its new tokens, where asked for.
        finish_reason: "stop" or "length" when it ends.
        germinal: What we say beyond OpenAI's fields, when it ends: a predictor's label and probabilities.
    """

    index: int
    text: str = ""
    logprobs: list[dict[str, Any]] = field(default_factory=list)
    finish_reason: str | None = None
    germinal: dict[str, Any] | None = None


@dataclass(slots=True)
class Usage:
    """Tokens of a request, complete when its reply has ended."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0

    def to_openai(self) -> dict[str, Any]:
        """OpenAI's object."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
            "prompt_tokens_details": {"cached_tokens": self.cached_tokens},
        }


class Reply(Protocol):
    """The answer to one request, on its way."""

    usage: Usage

    def deltas(self) -> AsyncIterator[Delta]:
        """Everything that comes, choice by choice as it comes; raises what went wrong."""
        ...

    def cancel(self) -> None:
        """Nobody reads on: free what the answer holds."""
        ...


class Service(Protocol):
    """Something that answers chat completion requests."""

    model_id: str

    def start(self) -> None:
        """Begin to work; once, before the first request."""
        ...

    def stop(self) -> None:
        """End, cancelling what runs."""
        ...

    async def answer(self, request: ChatRequest) -> Reply:
        """Take a request in.

        Raises:
            APIError, GerminalError: it cannot be answered.
        """
        ...

    def health(self) -> dict[str, Any] | None:
        """Figures that say how it is; None when it cannot answer any more."""
        ...
