"""The tokens of an answer, as the model is shown, scored, taught and read: what the chat template writes.

They are the rendered chat with the answer less the rendered chat that asks for it. So a template may put a space before
an answer (Llama 2), trim it, or take a part of it away; whatever it does, a worked example, a scored label, a taught
answer and a generated one are the same tokens. Where the two renderings do not fit together, the template is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from germinal.errors import TemplateError
from germinal.text.chat_template import Message
from germinal.text.tokenizer import Tokenizer

_PROBE = "Xanadu"
"""An answer that no template contains, to find what is written around one."""


@dataclass(frozen=True, slots=True)
class AnswerTokens:
    """What follows a chat that asks for an answer.

    Attributes:
        ids: The answer, with what the template writes before it.
        closing: What the template writes after it, up to the token that ends the turn; all of it where none does.
    """

    ids: tuple[int, ...]
    closing: tuple[int, ...]


def answer_tokens(
    messages: Sequence[Message] | Sequence[Mapping[str, Any]], answer: str, tokenizer: Tokenizer
) -> AnswerTokens:
    """The tokens of an answer to a chat.

    Raises:
        TemplateError: the template does not write the chat with the answer as a continuation of the chat without it.
    """
    asking = tokenizer.template.render(messages)
    around = _written(messages, _PROBE, asking, tokenizer)
    _, found, after = around.rpartition(_PROBE)
    if not found:
        raise _refusal(tokenizer, f"writes the answer {_PROBE!r} as {around!r}")
    written = _written(messages, answer, asking, tokenizer)
    if not written.endswith(after):
        raise _refusal(
            tokenizer, f"closes the answer {answer!r} with {written[-len(after) :]!r}, another with {after!r}"
        )
    prompt = tokenizer.encode(asking, add_special_tokens=False)
    whole = tokenizer.encode(asking + written, add_special_tokens=False)
    if whole[: len(prompt)] != prompt:
        raise _refusal(tokenizer, f"lets the first token of {written!r} merge with the end of the prompt")
    opened = tokenizer.encode(asking + written[: len(written) - len(after)], add_special_tokens=False)
    border = _shared(opened, whole)
    border += border < len(opened)  # a token of both the answer and what closes it is the answer's
    return AnswerTokens(tuple(whole[len(prompt) : border]), _through_control(whole[border:], tokenizer))


def closing_id(tokenizer: Tokenizer) -> int | None:
    """The control token with which the chat template closes an assistant's turn; None if there is none."""
    if tokenizer.chat_template is None:
        return None
    try:
        closing = answer_tokens([Message(role="user", content=_PROBE.lower())], _PROBE, tokenizer).closing
    except TemplateError:  # where it matters, `answer_tokens` says why
        return None
    return closing[-1] if closing and _is_control(closing[-1], tokenizer) else None


def _written(messages: Any, answer: str, asking: str, tokenizer: Tokenizer) -> str:
    """What the template writes after the chat that asks for an answer, if this is the answer."""
    turn = Message(role="assistant", content=answer)
    whole = tokenizer.template.render([*messages, turn], add_generation_prompt=False)
    if not whole.startswith(asking):
        place = _shared(whole, asking)
        raise _refusal(
            tokenizer, f"asks with {asking[max(place - 20, 0) :]!r}, but answers after {whole[max(place - 20, 0) :]!r}"
        )
    return whole[len(asking) :]


def _refusal(tokenizer: Tokenizer, what: str) -> TemplateError:
    return TemplateError(
        f"the chat template does not continue its prompt with the answer: it {what}.",
        where=tokenizer.name,
        hint="Its answers can't be scored or taught. Use a plain prompt (chat = false), or another template.",
    )


def _shared(left: Sequence[Any], right: Sequence[Any]) -> int:
    """Length of the start that two sequences share."""
    pairs = enumerate(zip(left, right, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(left), len(right)))


def _through_control(ids: Iterable[int], tokenizer: Tokenizer) -> tuple[int, ...]:
    kept: list[int] = []
    for id in ids:
        kept.append(id)
        if _is_control(id, tokenizer):
            break
    return tuple(kept)


def _is_control(id: int, tokenizer: Tokenizer) -> bool:
    """Whether a token is a mark rather than text: special, or added to the vocabulary and not of spaces alone."""
    return id in tokenizer.special_ids or (id in tokenizer.added_ids and bool(tokenizer.token_bytes(id).strip()))
