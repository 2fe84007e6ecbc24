"""What a model is asked, in either of two forms: plain text, or the messages of a chat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from germinal.text.chat_template import Message
from germinal.text.tokenizer import Tokenizer

Content = str | Sequence[Message] | Sequence[Mapping[str, Any]]
"""A prompt: plain text, or the messages of a chat."""


def is_chat(value: Any) -> bool:
    """Whether a list or tuple holds the messages of one chat, and not several prompts."""
    return bool(value) and isinstance(value[0], Mapping)


def render(prompt: Content, tokenizer: Tokenizer) -> str:
    """The text of a prompt; the messages of a chat go through the model's chat template.

    Raises:
        TemplateError: messages were given, and the model has no chat template, or its template refuses them.
    """
    return prompt if isinstance(prompt, str) else tokenizer.template.render(prompt)


def encode_prompt(prompt: Content, tokenizer: Tokenizer, *, answered: bool = True) -> tuple[int, ...]:
    """Token ids of a prompt. A chat template writes the special tokens itself; plain text gets the tokenizer's.

    Args:
        answered: Whether the answer follows these tokens, so that no end-of-sequence token may stand behind them; in an
            encoder-decoder another stack writes it.

    Raises:
        TemplateError: as of `render`.
    """
    text = render(prompt, tokenizer)
    if not isinstance(prompt, str):
        return tuple(tokenizer.encode(text, add_special_tokens=False))
    return tuple(tokenizer.encode_opening(text) if answered else tokenizer.encode(text))
