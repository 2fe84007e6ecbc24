"""Tokenizers out of GGUF metadata, against the published tokenizers of which they are the metadata."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from gguf_models import SPECIAL, published
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import CORPUS, small_tokenizer
from tokenizers import Tokenizer as Backend

from germinal.checkpoints.gguf_tokenizer import end_ids, tokenizer_from_gguf
from germinal.errors import CheckpointError, UnsupportedError
from germinal.text.tokenizer import Tokenizer


def metadata_of(backend: Backend, pre: str) -> dict[str, Any]:
    import json

    vocabulary = sorted(backend.get_vocab().items(), key=lambda pair: pair[1])
    return {
        "general.architecture": "llama",
        "llama.context_length": 64,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": pre,
        "tokenizer.ggml.tokens": [piece for piece, _ in vocabulary],
        "tokenizer.ggml.token_type": [3 if piece in SPECIAL else 1 for piece, _ in vocabulary],
        "tokenizer.ggml.merges": [" ".join(merge) for merge in json.loads(backend.to_str())["model"]["merges"]],
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.padding_token_id": 0,
        "tokenizer.chat_template": "{{ messages }}",
    }


PAIRS = {pre: published(pre) for pre in ("gpt-2", "smollm", "llama-bpe", "qwen2", "bloom")}
PARTS = st.one_of(
    st.sampled_from(["a", "b", "movie", "It's", "'LL", " ", "  ", "\t", "\n", "\r\n", "1", "23", "456", "½", "١"]),
    st.sampled_from(["é", "e\u0301", "日本", "🎬", "👍🏽", "<|im_end|>", "<|im", "!?", "\u200b", "\xa0", "..."]),
    st.characters(exclude_categories=["Cs"]),
)


@pytest.mark.parametrize("pre", PAIRS)
@given(parts=st.lists(PARTS, max_size=30))
@settings(max_examples=150, deadline=None)
def test_ids_are_those_of_the_published_tokenizer(pre: str, parts: list[str]) -> None:
    text = "".join(parts)
    ours = tokenizer_from_gguf(metadata_of(PAIRS[pre], pre), "tiny")
    theirs = PAIRS[pre].encode(text)
    assert ours.encode(text) == theirs.ids
    assert ours.decode(theirs.ids) == PAIRS[pre].decode(theirs.ids)


@pytest.mark.parametrize("pre", PAIRS)
def test_transformers_reads_what_we_write(pre: str, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    ours = tokenizer_from_gguf(metadata_of(PAIRS[pre], pre), "tiny")
    ours.save(tmp_path)
    theirs, again = AutoTokenizer.from_pretrained(tmp_path), Tokenizer.from_folder(tmp_path)
    for text in ["It's  12 3456\n\n x  ", "naïve 日本 🎬👍🏽 <|im_start|>user\nhi<|im_end|>", "e\u0301 ½ ١"]:
        assert theirs(text).input_ids == ours.encode(text) == again.encode(text)
    assert (theirs.bos_token, theirs.eos_token, theirs.pad_token) == ("<|im_start|>", "<|im_end|>", "<|endoftext|>")
    assert theirs.chat_template == "{{ messages }}"
    assert again.fingerprint == ours.fingerprint


@pytest.mark.parametrize(
    ("other", "pre"),
    [
        ("llama3", "llama-bpe"),
        ("llama-v3", "llama-bpe"),
        ("falcon3", "llama-bpe"),
        ("deepseek-r1-qwen", "qwen2"),
        ("megrez", "qwen2"),
        ("minerva-7b", "smollm"),
        ("starcoder", "smollm"),
        ("olmo", "gpt-2"),
        ("phi-2", "gpt-2"),
        ("poro-chat", "bloom"),
        (None, "default"),
    ],
)
def test_other_names_of_a_way_to_split(other: str | None, pre: str) -> None:
    metadata = metadata_of(PAIRS["gpt-2"], "gpt-2")
    both = (tokenizer_from_gguf({**metadata, "tokenizer.ggml.pre": each}, "x") for each in (other, pre))
    assert len({tokenizer.fingerprint for tokenizer in both}) == 1


@pytest.mark.parametrize(
    ("pre", "text", "pieces"),
    [
        ("default", "it's 12345!?$ a", ["it", "'", "s", "Ġ", "123", "45", "!?$", "Ġa"]),
        ("default", "a\n\n b", ["a", "ĊĊ", "Ġb"]),
        ("dbrx", "it'S 12345!", ["it", "'S", "Ġ", "123", "45", "!"]),
        ("tekken", "camelCase 12//\n", ["camel", "Case", "Ġ", "1", "2", "//Ċ"]),
        ("deepseek-coder", "go 12!?", ["go", "Ġ", "1", "2", "!?"]),
        ("viking", "go 12!", ["go", "Ġ", "1", "2", "!"]),
        ("seed-coder", "x\n\ny!\n", ["x", "ĊĊ", "y", "!", "Ċ"]),
    ],
)
def test_where_a_text_is_split(pre: str, text: str, pieces: list[str]) -> None:
    """By hand from the patterns, since the models that have them are too large for a test."""
    splitter = tokenizer_from_gguf({**metadata_of(PAIRS["gpt-2"], "gpt-2"), "tokenizer.ggml.pre": pre}, "x").backend
    assert [piece for piece, _ in splitter.pre_tokenizer.pre_tokenize_str(text)] == pieces


def test_of_tokens_with_one_text_the_last_is_used_and_all_are_shown() -> None:
    metadata = metadata_of(PAIRS["gpt-2"], "gpt-2")
    tokens = metadata["tokenizer.ggml.tokens"]
    first = tokens.index("t")
    more = {"tokenizer.ggml.tokens": [*tokens, "t", "t"], "tokenizer.ggml.token_type": [1] * (len(tokens) + 2)}
    ours = tokenizer_from_gguf({**metadata, **more, "tokenizer.ggml.merges": []}, "tiny")
    assert ours.encode("at") == [tokens.index("a"), len(tokens) + 1]
    assert ours.decode([first, len(tokens), len(tokens) + 1]) == "ttt"


def test_merges_without_a_result_are_left_out_where_that_is_the_same() -> None:
    metadata = metadata_of(PAIRS["gpt-2"], "gpt-2")
    expected = tokenizer_from_gguf(metadata, "tiny").encode("film: %&")
    merges = metadata["tokenizer.ggml.merges"]
    ours = tokenizer_from_gguf({**metadata, "tokenizer.ggml.merges": ["% &", *merges]}, "tiny")
    assert ours.encode("film: %&") == expected
    with pytest.raises(CheckpointError, match=r"q \+ t give no token"):  # before a merge that begins with t
        tokenizer_from_gguf({**metadata, "tokenizer.ggml.merges": ["q t", *merges]}, "tiny")


def test_answers_end_at_tokens_known_by_key_and_by_text() -> None:
    metadata = metadata_of(PAIRS["gpt-2"], "gpt-2")  # <|endoftext|> <|im_start|> <|im_end|>
    del metadata["tokenizer.ggml.eos_token_id"]
    assert end_ids(metadata) == [0, 2]
    assert end_ids({**metadata, "tokenizer.ggml.eos_token_id": 2}) == [2, 0]
    assert end_ids({**metadata, "tokenizer.ggml.eos_token_id": 5, "tokenizer.ggml.eot_token_id": 7}) == [5, 7, 0, 2]
    kinds = [1] * len(metadata["tokenizer.ggml.tokens"])
    ordinary = tokenizer_from_gguf({**metadata, "tokenizer.ggml.token_type": kinds}, "tiny")
    assert ordinary.encode("a<|im_end|>")[-1] == 2
    assert ordinary.decode([2]) == ""


def test_older_files_of_pieces_leave_out_the_special_ids() -> None:
    metadata = {key: value for key, value in sentencepiece_metadata().items() if not key.endswith("_token_id")}
    ours = tokenizer_from_gguf(metadata, "tiny")
    assert (ours.bos_id, ours.eos_id) == (1, 2)
    assert end_ids(metadata) == [2]


def test_a_named_template_beside_the_plain_one() -> None:
    named = {"tokenizer.chat_templates": ["tool_use"], "tokenizer.chat_template.tool_use": "tools"}
    template = tokenizer_from_gguf({**metadata_of(PAIRS["gpt-2"], "gpt-2"), **named}, "tiny").template
    assert template.source == "{{ messages }}"
    assert template.render([{"role": "user", "content": "a"}], tools=[]) == "tools"


def test_a_separator_goes_between_two_texts() -> None:
    metadata = {**metadata_of(PAIRS["gpt-2"], "gpt-2"), "tokenizer.ggml.pre": "roberta-bpe"}
    more = {"add_bos_token": True, "add_eos_token": True, "seperator_token_id": 2}
    ours = tokenizer_from_gguf(metadata | {f"tokenizer.ggml.{key}": value for key, value in more.items()}, "tiny")
    first, second = ours.encode("a", add_special_tokens=False), ours.encode("b", add_special_tokens=False)
    (pair,) = ours.encodings([("a", "b")])
    assert pair.ids == [1, *first, 2, 2, *second, 2]


def test_user_defined_tokens_are_found_whole_and_shown() -> None:
    metadata = metadata_of(PAIRS["gpt-2"], "gpt-2")
    place = metadata["tokenizer.ggml.tokens"].index("Ġthe")
    metadata["tokenizer.ggml.tokens"][place] = "<think>"
    metadata["tokenizer.ggml.token_type"][place] = 4
    metadata["tokenizer.ggml.merges"] = [m for m in metadata["tokenizer.ggml.merges"] if "".join(m.split()) != "Ġthe"]
    metadata["tokenizer.ggml.merges"] = [m for m in metadata["tokenizer.ggml.merges"] if "Ġthe" not in m.split()]
    ours = tokenizer_from_gguf(metadata, "tiny")
    assert place in ours.encode("a<think>b")
    assert ours.decode(ours.encode("a<think>b")) == "a<think>b"
    assert place not in ours.special_ids


def sentencepiece_metadata(prefix: bool = True) -> dict[str, Any]:
    """A vocabulary as LLaMA 2's: three special tokens, 256 bytes, then merged pieces with falling scores."""
    pieces = ["he", "ll", "▁he", "llo", "▁hello", "▁w", "or", "▁wor", "ld", "▁world", "hell", "▁▁", "▁▁▁▁"]
    letters = ["▁", *"helowrd", "é", "日"]
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *pieces, *letters]
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.scores": [0.0] * 259 + [-float(place) for place in range(len(pieces) + len(letters))],
        "tokenizer.ggml.token_type": [2, 3, 3] + [6] * 256 + [1] * (len(pieces) + len(letters)),
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 0,
        "tokenizer.ggml.add_space_prefix": prefix,
    }


def by_scores(text: str, metadata: dict[str, Any]) -> list[int]:
    """SentencePiece's own algorithm, written plainly: merge the best-scored adjacent pair, the leftmost of equals."""
    ids = {token: id for id, token in enumerate(metadata["tokenizer.ggml.tokens"])}
    scores = metadata["tokenizer.ggml.scores"]
    symbols = list(("▁" if metadata["tokenizer.ggml.add_space_prefix"] else "") + text.replace(" ", "▁"))
    while True:
        pairs = [(-scores[ids[a + b]], place) for place, (a, b) in enumerate(pairwise(symbols)) if a + b in ids]
        if not pairs:
            break
        _, place = min(pairs)
        symbols[place : place + 2] = [symbols[place] + symbols[place + 1]]
    out: list[int] = []
    for symbol in symbols:
        out += [ids[symbol]] if symbol in ids else [ids[f"<0x{byte:02X}>"] for byte in symbol.encode()]
    return out


@pytest.mark.parametrize("prefix", [True, False])
@given(text=st.text(st.sampled_from("helo wrd é日🎬\n"), min_size=1, max_size=24))
@settings(max_examples=200, deadline=None)
def test_sentencepiece_merges_by_score(prefix: bool, text: str) -> None:
    metadata = sentencepiece_metadata(prefix)
    ours = tokenizer_from_gguf(metadata, "tiny")
    ids = ours.encode(text)
    assert ids == [1, *by_scores(text, metadata)]
    assert ours.decode(ids) == text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda metadata: metadata["tokenizer.ggml.tokens"].append("h" * 10**6), "a piece of 1,000,000 characters"),
        (lambda metadata: metadata["tokenizer.ggml.tokens"].append("h"), "scores .* do not match"),
    ],
)
def test_pieces_and_scores_that_no_vocabulary_has(change: Any, message: str) -> None:
    metadata = sentencepiece_metadata()
    change(metadata)
    metadata["tokenizer.ggml.scores"].append(float("nan") if len(metadata["tokenizer.ggml.tokens"][-1]) == 1 else 0.0)
    metadata["tokenizer.ggml.token_type"].append(1)
    with pytest.raises(CheckpointError, match=message):
        tokenizer_from_gguf(metadata, "tiny")


def test_special_tokens_around_a_text_follow_the_metadata() -> None:
    metadata = metadata_of(PAIRS["gpt-2"], "gpt-2")
    plain = tokenizer_from_gguf(metadata, "tiny").encode("film")
    for bos in (True, False):
        for eos in (True, False):
            flags = {"tokenizer.ggml.add_bos_token": bos, "tokenizer.ggml.add_eos_token": eos}
            ids = tokenizer_from_gguf({**metadata, **flags}, "tiny").encode("film")
            assert ids == [1] * bos + plain + [2] * eos


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"tokenizer.ggml.pre": "smolm"}, UnsupportedError, "Did you mean 'smollm'"),
        ({"tokenizer.ggml.model": "rwkv"}, UnsupportedError, "model 'rwkv'"),
        ({"tokenizer.ggml.tokens": None}, CheckpointError, "tokenizer.ggml.tokens"),
        ({"tokenizer.ggml.merges": None}, CheckpointError, "tokenizer.ggml.merges"),
        ({"tokenizer.ggml.merges": ["xx yy"]}, CheckpointError, "contradict"),
        ({"tokenizer.ggml.tokens": ["a", "b"]}, CheckpointError, "token types for 2 tokens"),
        ({"tokenizer.ggml.tokens": 7}, CheckpointError, "must be a list"),
        ({"tokenizer.ggml.eos_token_id": 10**6}, CheckpointError, "eos token id 1000000 is outside"),
    ],
)
def test_what_cannot_be_exact_is_refused(changes: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        tokenizer_from_gguf({**metadata_of(PAIRS["gpt-2"], "gpt-2"), **changes}, "tiny")


def test_the_peer_agrees_on_a_plain_gpt2_split() -> None:
    peer = small_tokenizer()
    ours = tokenizer_from_gguf(metadata_of(peer.backend_tokenizer, "gpt-2"), "tiny")
    for text in CORPUS:
        assert ours.encode(text) == peer.encode(text)
