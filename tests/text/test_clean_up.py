"""Spaces cleaned up after decoding: as transformers does, and the same whether a text comes whole or in parts."""

from __future__ import annotations

from pathlib import Path

import tokenizer_folders as tiny
from hypothesis import example, given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from germinal.checkpoints.tokenizer_files import folder_tokenizer
from germinal.text.clean_up import CleanUp, clean_up
from germinal.text.detokenizer import Detokenizer

PARTS = st.lists(st.text("a '.,?!nmtsvre", max_size=6), max_size=8)


@given(parts=PARTS)
@example(parts=["a ", "'", " ", "."])
@example(parts=["do n", "'t", " ' s"])
def test_a_text_in_parts_is_cleaned_as_the_whole(parts: list[str]) -> None:
    cleaned = CleanUp()
    found = "".join(cleaned.push(part) for part in parts) + cleaned.finish()
    assert found == clean_up("".join(parts))
    theirs = PreTrainedTokenizerFast(tokenizer_object=tiny.wordpiece())
    assert found == theirs.clean_up_tokenization("".join(parts))


def test_text_comes_as_soon_as_it_is_final() -> None:
    cleaned = CleanUp()
    assert [cleaned.push(part) for part in ("hello", " world", " .", " It is")] == [
        "hello",
        " world",
        "",
        ". It is"[:0],
    ]
    assert cleaned.finish() == ". It is"


def test_a_streamed_answer_is_the_decoded_one(tmp_path: Path) -> None:
    folder = tiny.folder(tmp_path, tiny.t5(), {"tokenizer_class": "T5Tokenizer", "clean_up_tokenization_spaces": True})
    tokenizer = folder_tokenizer(folder, "tiny")
    ids = tokenizer.encode("hello , a 's . hello . ", add_special_tokens=False)
    text = Detokenizer(tokenizer)
    assert "".join(map(text.push, ids)) + text.finish() == tokenizer.decode(ids)
