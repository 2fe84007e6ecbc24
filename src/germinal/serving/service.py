"""What can be served: the interface of a model and of a project's winner."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from germinal.serving.requests import ChatRequest


@dataclass(frozen=True, slots=True)
class Delta:
    """The next part of one choice.

    Attributes:
        index: Which choice.
        text: Its new text.
        logprobs: OpenAI's objects for its new tokens, if the request asked for them.
        finish_reason: "stop" or "length" at its end, else None.
        germinal: Our own field at its end: a predictor's label and probabilities.
    """

    index: int
    text: str = ""
    logprobs: list[dict[str, Any]] = field(default_factory=list)
    finish_reason: str | None = None
    germinal: dict[str, Any] | None = None


@dataclass(slots=True)
class Usage:
    """Token counts of a request; complete when its reply has ended."""

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
    """The answer to one request as it is generated."""

    usage: Usage

    def deltas(self) -> AsyncIterator[Delta]:
        """The parts of all choices, in the order in which they are ready; raises what went wrong."""
        ...

    def cancel(self) -> None:
        """Stop generating, since nobody reads on."""
        ...


class Service(Protocol):
    """What answers chat completion requests.

    Attributes:
        model_id: The name by which clients ask for it.
    """

    model_id: str

    def start(self) -> None:
        """Start; called once, before the first request."""
        ...

    def stop(self) -> None:
        """Stop; open answers are cancelled."""
        ...

    async def answer(self, request: ChatRequest) -> Reply:
        """Begin to answer a request.

        Raises:
            APIError, GerminalError: it cannot be answered.
        """
        ...

    def health(self) -> dict[str, Any] | None:
        """Figures for /health; None if it can no longer answer."""
        ...
