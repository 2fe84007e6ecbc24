"""What is cut when a prompt does not fit: exactly what the policy says, never anything else, and never silently."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from germinal.errors import ContextWindowError, SettingError
from germinal.text.context_window import ContextWindow
from germinal.text.prompt import Example, Prompt
from germinal.text.tokenizer import Tokenizer

PROMPT = Prompt("Classify this review:", "Sentiment:")
CHAT = Prompt("Classify this review:", "Sentiment:", chat=True)
SHOTS = [Example("Dull.", "Negative"), Example("A joy 🎬!", "Positive"), Example("Warm and funny.", "Positive")]
TEXTS = st.text(st.sampled_from("abc é日🎬👍🏽 \n!12"), min_size=1, max_size=80)


@pytest.fixture(scope="module")
def tokenizer(llama_folder: Path) -> Tokenizer:
    return Tokenizer.from_folder(llama_folder)


def test_what_fits_is_left_alone(tokenizer: Tokenizer) -> None:
    text = PROMPT.text("I loved it!", SHOTS)
    ids = tokenizer.encode(text)
    for policy in ("error", "drop_examples", "truncate_input"):
        fitted = ContextWindow(len(ids) + 5, policy).fit(PROMPT, "I loved it!", SHOTS, tokenizer=tokenizer, reserve=5)
        assert (fitted.text, list(fitted.ids)) == (text, ids)
        assert (fitted.dropped_examples, fitted.truncated_tokens) == (0, 0)


def test_the_error_has_the_counts(tokenizer: Tokenizer) -> None:
    tokens = len(tokenizer.encode(PROMPT.text("I loved it!")))
    with pytest.raises(ContextWindowError) as caught:
        ContextWindow(12).fit(PROMPT, "I loved it!", tokenizer=tokenizer, reserve=7)
    assert f"{tokens} tokens" in caught.value.what
    assert "take 7" in caught.value.what
    assert "holds 12" in caught.value.what


def test_examples_are_dropped_from_the_first_on(tokenizer: Tokenizer) -> None:
    room = len(tokenizer.encode(PROMPT.text("So-so.", SHOTS[1:])))
    fitted = ContextWindow(room, "drop_examples").fit(PROMPT, "So-so.", SHOTS, tokenizer=tokenizer)
    assert fitted.text == PROMPT.text("So-so.", SHOTS[1:])
    assert fitted.dropped_examples == 1
    with pytest.raises(ContextWindowError, match="without any of the 3"):
        ContextWindow(5, "drop_examples").fit(PROMPT, "So-so.", SHOTS, tokenizer=tokenizer)


@pytest.mark.parametrize("prompt", [PROMPT, CHAT], ids=["plain", "chat"])
@given(text=TEXTS, size=st.integers(10, 160), side=st.sampled_from(["right", "left"]), shots=st.integers(0, 3))
@settings(max_examples=150, deadline=None)
def test_truncation_cuts_the_input_at_one_side_and_nothing_else(
    prompt: Prompt, tokenizer: Tokenizer, text: str, size: int, side: str, shots: int
) -> None:
    examples = SHOTS[:shots]
    ids = tokenizer.encode(text, add_special_tokens=False)

    def whole(kept: str) -> str:
        if prompt.chat:
            return tokenizer.template.render(prompt.messages(kept, examples))
        return prompt.text(kept, examples)

    def kept_of(count: int) -> str:
        """What `count` tokens of the input spell; half a character comes out as U+FFFD."""
        spelt = ids[:count] if side == "right" else ids[len(ids) - count :]
        return tokenizer.decode(spelt, skip_special_tokens=False)

    def tokens(kept: str) -> int:
        return len(tokenizer.encode(whole(kept), add_special_tokens=not prompt.chat))

    window = ContextWindow(size, "truncate_input", truncate_side=side)  # type: ignore[arg-type]
    try:
        fitted = window.fit(prompt, text, examples, tokenizer=tokenizer, reserve=3)
    except ContextWindowError:
        shortest = next(kept for count in range(1, len(ids) + 1) if "\ufffd" not in (kept := kept_of(count)))
        assert tokens(shortest) > size - 3
        return
    assert len(fitted.ids) <= size - 3
    assert fitted.dropped_examples == 0
    kept = kept_of(len(ids) - fitted.truncated_tokens)
    assert kept
    assert fitted.text == whole(kept)  # instruction, examples and answer cue whole; the input cut at a token's border
    assert list(fitted.ids) == tokenizer.encode(fitted.text, add_special_tokens=not prompt.chat)
    assert text.startswith(kept) if side == "right" else text.endswith(kept)


@given(text=st.text(st.sampled_from("ab 12é"), min_size=30, max_size=60), side=st.sampled_from(["right", "left"]))
@settings(max_examples=50, deadline=None)
def test_truncation_keeps_as_much_as_fits(tokenizer: Tokenizer, text: str, side: str) -> None:
    room = len(tokenizer.encode(PROMPT.text(text))) - 6
    window = ContextWindow(room, "truncate_input", truncate_side=side)  # type: ignore[arg-type]
    fitted = window.fit(PROMPT, text, tokenizer=tokenizer)
    assert room - 2 <= len(fitted.ids) <= room  # two: tokens at the cut may merge with their new neighbours


def test_no_room_for_a_single_token_is_an_error(tokenizer: Tokenizer) -> None:
    empty = len(tokenizer.encode(PROMPT.text("", SHOTS)))
    with pytest.raises(ContextWindowError, match="cut to one token"):
        ContextWindow(empty, "truncate_input").fit(PROMPT, "A film 🎬", SHOTS, tokenizer=tokenizer)


def test_a_character_of_several_tokens_is_never_split(tokenizer: Tokenizer) -> None:
    text = "日本" * 10
    whole = len(tokenizer.encode(PROMPT.text(text)))
    for cut in range(1, 12):
        for side in ("right", "left"):
            window = ContextWindow(whole - cut, "truncate_input", truncate_side=side)  # type: ignore[arg-type]
            fitted = window.fit(PROMPT, text, tokenizer=tokenizer)
            assert "\ufffd" not in fitted.text
            assert fitted.truncated_tokens >= cut


def test_unknown_policies_are_refused() -> None:
    with pytest.raises(SettingError, match="drop_examples"):
        ContextWindow(10, "drop_example")  # type: ignore[arg-type]
    with pytest.raises(SettingError, match="truncate_side"):
        ContextWindow(10, truncate_side="middle")  # type: ignore[arg-type]


def test_two_stacks_have_a_window_each(tokenizer: Tokenizer) -> None:
    ids = tuple(tokenizer.encode(PROMPT.text("I loved it!")))
    window = ContextWindow(len(ids), two_stacks=True)
    assert window.fit(PROMPT, "I loved it!", tokenizer=tokenizer, reserve=len(ids) - 1).ids == ids
    with pytest.raises(ContextWindowError, match=f"may take {len(ids)} tokens, but the decoder writes at most"):
        window.fit(PROMPT, "I loved it!", tokenizer=tokenizer, reserve=len(ids))
    with pytest.raises(ContextWindowError, match=rf"{len(ids) + 1} tokens, but the encoder's window holds {len(ids)}"):
        window.fit(PROMPT, "I loved it!!", tokenizer=tokenizer, reserve=1)
    cut = ContextWindow(len(ids), "truncate_input", two_stacks=True)
    assert cut.fit(PROMPT, "I loved it!!", tokenizer=tokenizer, reserve=1).truncated_tokens == 1
