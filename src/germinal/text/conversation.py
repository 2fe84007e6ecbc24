"""Fitting a conversation into the context window by dropping its oldest turns, and reporting how many.

The system message and the newest user turn always stay. Turns are dropped in pairs, a question with its answer, so that
the rest starts with a user turn as chat templates expect.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from germinal.errors import ContextWindowError
from germinal.text.chat_template import Message
from germinal.text.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class FittedConversation:
    """The part of a conversation that the model reads.

    Attributes:
        messages: The system message, if any, and the newest turns that fit.
        tokens: Their length in tokens, rendered.
        dropped: Number of messages left out.
    """

    messages: tuple[Message, ...]
    tokens: int
    dropped: int


def fit_conversation(
    messages: Sequence[Message], tokenizer: Tokenizer, context_window: int, reserve: int
) -> FittedConversation:
    """Drop the oldest turns until the rendered chat and `reserve` tokens of answer fit the window.

    Raises:
        ContextWindowError: even the system message and the last turn alone do not fit.
    """
    system = [message for message in messages[:1] if message["role"] == "system"]
    turns = list(messages[len(system) :])
    starts = [place for place, message in enumerate(turns) if message["role"] == "user"] or [0]
    tokens = 0
    for start in starts:
        kept = [*system, *turns[start:]]
        tokens = len(tokenizer.encode(tokenizer.template.render(kept), add_special_tokens=False))
        if tokens + reserve <= context_window:
            return FittedConversation(tuple(kept), tokens, dropped=start)
    raise ContextWindowError(
        f"the last message has {tokens} tokens and the answer may take {reserve}, but the context window holds "
        f"{context_window}.",
        hint="Shorten the message, or lower max_new_tokens.",
    )
