"""A conversation that outgrows the context window."""

from __future__ import annotations

from pathlib import Path

import pytest

from germinal.errors import ContextWindowError
from germinal.text.chat_template import Message
from germinal.text.conversation import fit_conversation
from germinal.text.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def tokenizer(llama_folder: Path) -> Tokenizer:
    return Tokenizer.from_folder(llama_folder)


def conversation(turns: int, *, system: bool) -> list[Message]:
    messages: list[Message] = [{"role": "system", "content": "Be brief."}] if system else []
    for number in range(turns):
        messages.append({"role": "user", "content": f"question {number}"})
        messages.append({"role": "assistant", "content": f"answer {number}"})
    return [*messages, {"role": "user", "content": "the last question"}]


def length(tokenizer: Tokenizer, messages: list[Message]) -> int:
    return len(tokenizer.encode(tokenizer.template.render(messages), add_special_tokens=False))


@pytest.mark.parametrize("system", [True, False])
def test_what_fits_stays_whole(tokenizer: Tokenizer, system: bool) -> None:
    messages = conversation(3, system=system)
    needed = length(tokenizer, messages)
    fitted = fit_conversation(messages, tokenizer, context_window=needed + 5, reserve=5)
    assert list(fitted.messages) == messages
    assert (fitted.tokens, fitted.dropped) == (needed, 0)


@pytest.mark.parametrize("system", [True, False])
def test_the_oldest_turns_leave_in_pairs_and_the_system_message_stays(tokenizer: Tokenizer, system: bool) -> None:
    messages = conversation(3, system=system)
    needed = length(tokenizer, messages)
    fitted = fit_conversation(messages, tokenizer, context_window=needed + 4, reserve=5)  # one token short
    head, turns = messages[: int(system)], messages[int(system) :]
    assert list(fitted.messages) == [*head, *turns[2:]]
    assert fitted.dropped == 2
    assert fitted.tokens == length(tokenizer, list(fitted.messages))


def test_the_last_question_alone_may_be_left(tokenizer: Tokenizer) -> None:
    messages = conversation(3, system=True)
    shortest = [messages[0], messages[-1]]
    fitted = fit_conversation(messages, tokenizer, context_window=length(tokenizer, shortest), reserve=0)
    assert list(fitted.messages) == shortest
    assert fitted.dropped == 6


def test_a_question_that_fits_in_no_way_is_refused_with_the_counts(tokenizer: Tokenizer) -> None:
    messages = conversation(2, system=True)
    shortest = length(tokenizer, [messages[0], messages[-1]])
    with pytest.raises(ContextWindowError, match=f"{shortest} tokens and the answer may take 7"):
        fit_conversation(messages, tokenizer, context_window=shortest + 6, reserve=7)
    assert len(messages) == 6  # untouched
