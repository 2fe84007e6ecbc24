"""Streaming equals the full decode, in whole characters, and ends exactly at stop texts, for every tokenizer."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, trainers

from germinal.text.detokenizer import Detokenizer
from germinal.text.tokenizer import Tokenizer

TEXTS = [
    "I loved this movie! It's warm, funny and true.",
    "Grüße aus Köln, naïve café; Ελληνικά и по-русски.",
    "日本語のテキストと中文文本，以及한국어.",
    "emoji 🎬👩‍👩‍👧‍👦🏳️‍🌈 and flags 🇫🇷🇩🇪",
    "combining: e\u0301 n\u0303 a\u0308\u0323; Arabic العربية, Hindi हिन्दी, Thai ภาษาไทย",
    "  leading and   many spaces\n\n\ttabs, line\r\nends ",
    "a replacement character \ufffd of its own",
    "",
]
SPECIAL = ["<|begin|>", "<|end|>"]


def byte_level_bpe() -> tokenizers.Tokenizer:
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=420, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator(TEXTS * 3, trainer)
    backend.add_tokens([AddedToken("<tool é>", normalized=False)])
    return backend


def sentencepiece_bpe_with_byte_fallback() -> tokenizers.Tokenizer:
    """LLaMA 1's kind: spaces as ▁, unknown characters as bytes, the first space dropped in decoding."""
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    pieces = ["<unk>", *SPECIAL, *bytes_, "▁", *"abcdefghilmnorstuvwyI!.,'", "é", "日", "\ufffd"]
    merges = [("▁", "t"), ("h", "e"), ("▁t", "he"), ("▁", "a"), ("▁", "▁")]
    pieces += [left + right for left, right in merges]
    vocabulary = {piece: id for id, piece in enumerate(pieces)}
    backend = tokenizers.Tokenizer(
        models.BPE(vocab=vocabulary, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    )
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    backend.add_special_tokens(SPECIAL)
    return backend


def wordpiece() -> tokenizers.Tokenizer:
    backend = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece(prefix="##")
    trainer = trainers.WordPieceTrainer(vocab_size=300, special_tokens=["[UNK]", *SPECIAL], show_progress=False)
    backend.train_from_iterator(TEXTS * 3, trainer)
    return backend


def unigram() -> tokenizers.Tokenizer:
    """T5's kind."""
    backend = tokenizers.Tokenizer(models.Unigram())
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=150, special_tokens=["<unk>", *SPECIAL], unk_token="<unk>", show_progress=False
    )
    backend.train_from_iterator(TEXTS[:-1] * 3, trainer)
    return backend


def word_end_bpe() -> tokenizers.Tokenizer:
    backend = tokenizers.Tokenizer(models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.decoder = decoders.BPEDecoder(suffix="</w>")
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<unk>", *SPECIAL], end_of_word_suffix="</w>", show_progress=False
    )
    backend.train_from_iterator(TEXTS * 3, trainer)
    return backend


KINDS: dict[str, Callable[[], tokenizers.Tokenizer]] = {
    maker.__name__: maker
    for maker in (byte_level_bpe, sentencepiece_bpe_with_byte_fallback, wordpiece, unigram, word_end_bpe)
}


@cache
def tokenizer_of(kind: str) -> Tokenizer:
    return Tokenizer(KINDS[kind](), name=kind)


def stream(detokenizer: Detokenizer, ids: list[int]) -> list[str]:
    return [*(detokenizer.push(id) for id in ids), detokenizer.finish()]


@pytest.mark.parametrize("skip", [True, False])
@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_pieces_of_random_ids_add_up_to_the_full_decode(kind: str, skip: bool, data: st.DataObject) -> None:
    tokenizer = tokenizer_of(kind)
    ids = data.draw(st.lists(st.integers(0, tokenizer.vocab_size + 1), max_size=30))
    detokenizer = Detokenizer(tokenizer, skip_special_tokens=skip)
    pieces = stream(detokenizer, ids)
    assert "".join(pieces) == tokenizer.decode(ids, skip_special_tokens=skip) == detokenizer.text


@given(st.lists(st.integers(0, 255), max_size=24))
def test_runs_of_byte_tokens_add_up_to_the_full_decode(values: list[int]) -> None:
    tokenizer = tokenizer_of("sentencepiece_bpe_with_byte_fallback")
    ids = [tokenizer.backend.token_to_id(f"<0x{value:02X}>") for value in values]
    assert "".join(stream(Detokenizer(tokenizer), ids)) == tokenizer.decode(ids)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", TEXTS)
def test_real_text_comes_in_whole_characters(kind: str, text: str) -> None:
    tokenizer = tokenizer_of(kind)
    ids = tokenizer.encode(text)
    pieces = stream(Detokenizer(tokenizer), ids)
    assert "".join(pieces) == tokenizer.decode(ids)
    if "\ufffd" not in text:
        assert not any("\ufffd" in piece for piece in pieces)


def test_plain_text_in_a_byte_level_vocabulary() -> None:
    """Some hold pieces that are not spelt in the byte-level alphabet; the decoder takes them as they are."""
    backend = tokenizers.Tokenizer(models.BPE(vocab={"two words": 0, "日本": 1, "Ã": 2, "©": 3}, merges=[]))
    backend.decoder = decoders.ByteLevel()
    tokenizer = Tokenizer(backend)
    assert "".join(stream(Detokenizer(tokenizer), [0, 1, 2, 3, 0])) == tokenizer.decode([0, 1, 2, 3, 0])
    assert tokenizer.decode([0, 1, 2, 3]) == "two words日本é"


@given(st.text(max_size=40))
def test_any_text_survives_a_byte_level_vocabulary(text: str) -> None:
    tokenizer = tokenizer_of("byte_level_bpe")
    pieces = stream(Detokenizer(tokenizer), tokenizer.encode(text, add_special_tokens=False))
    assert "".join(pieces) == text


@pytest.mark.parametrize("kind", ["byte_level_bpe", "sentencepiece_bpe_with_byte_fallback"])
def test_ordinary_text_is_not_held_back(kind: str) -> None:
    tokenizer = tokenizer_of(kind)
    ids = tokenizer.encode("in the morning")
    detokenizer = Detokenizer(tokenizer)
    for count, id in enumerate(ids, start=1):
        detokenizer.push(id)
        assert detokenizer.text == tokenizer.decode(ids[:count])


def test_an_unfinished_character_at_the_end_is_shown_as_the_full_decode_shows_it() -> None:
    tokenizer = tokenizer_of("byte_level_bpe")
    ids = tokenizer.encode("a🎬", add_special_tokens=False)[:-1]
    detokenizer = Detokenizer(tokenizer)
    assert "".join(detokenizer.push(id) for id in ids) == "a"
    assert detokenizer.finish() == "\ufffd"
    assert detokenizer.text == tokenizer.decode(ids)


def cut_at_stop(text: str, stop: list[str]) -> tuple[str, bool]:
    """What a reader who watches character by character would have seen, stop texts never shown."""
    for end in range(1, len(text) + 1):
        for candidate in sorted(stop, key=len, reverse=True):
            if text[:end].endswith(candidate):
                return text[: end - len(candidate)], True
    return text, False


@pytest.mark.parametrize("kind", ["byte_level_bpe", "sentencepiece_bpe_with_byte_fallback", "unigram"])
@given(data=st.data())
def test_stop_texts_end_the_answer_wherever_tokens_begin(kind: str, data: st.DataObject) -> None:
    tokenizer = tokenizer_of(kind)
    ids = tokenizer.encode(data.draw(st.sampled_from(TEXTS)))
    whole = tokenizer.decode(ids)
    stop = data.draw(st.lists(st.text("abet 日\n.🎬ю", min_size=1, max_size=3), max_size=2))
    if whole:
        at = data.draw(st.integers(0, len(whole) - 1))
        stop.append(whole[at : at + data.draw(st.integers(1, 9))])
    expected, stopped = cut_at_stop(whole, stop)
    detokenizer = Detokenizer(tokenizer, stop)
    shown = ""
    for piece in stream(detokenizer, ids):
        shown += piece
        assert expected.startswith(shown), "text was shown that had to be taken back"
    assert shown == expected == detokenizer.text
    assert detokenizer.stopped == stopped


def test_only_what_may_become_a_stop_text_is_held_back() -> None:
    tokenizer = tokenizer_of("byte_level_bpe")
    detokenizer = Detokenizer(tokenizer, stop=["END"])
    pieces = {text: detokenizer.push(tokenizer.encode(text)[0]) for text in ("a", "E", "N")}
    assert pieces == {"a": "a", "E": "", "N": ""}
    assert detokenizer.push(tokenizer.encode("E")[0]) == "EN"
    assert detokenizer.finish() == "E"
    assert not detokenizer.stopped


def test_nothing_comes_after_a_stop_text() -> None:
    tokenizer = tokenizer_of("byte_level_bpe")
    detokenizer = Detokenizer(tokenizer, stop=["x"])
    for text in ("a", "x", "b", "x"):
        detokenizer.push(tokenizer.encode(text)[0])
    assert detokenizer.stopped
    assert detokenizer.finish() == ""
    assert detokenizer.text == "a"


@pytest.mark.parametrize("kind", KINDS)
def test_the_cost_of_a_token_does_not_grow_with_the_answer(kind: str) -> None:
    tokenizer = tokenizer_of(kind)
    ids = tokenizer.encode(" ".join(TEXTS[:2])) * 20
    longest = 0
    detokenizer = Detokenizer(tokenizer, stop=["never in there"])
    decode = tokenizer.decode

    def counting(ids: list[int], skip_special_tokens: bool = True) -> str:
        nonlocal longest
        longest = max(longest, len(ids))
        return decode(ids, skip_special_tokens)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokenizer, "decode", counting)
        stream(detokenizer, ids)
    assert longest < 40
    assert detokenizer.text == decode(ids)
