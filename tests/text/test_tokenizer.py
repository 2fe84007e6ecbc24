"""Our tokenizer against transformers' on the same folder, and every way in which a folder can be wrong."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers import Tokenizer as Backend

from germinal.errors import CheckpointError, UnsupportedError, VocabularyMismatchError
from germinal.text.tokenizer import Tokenizer

TRICKY = [
    "",
    "I'm sure they'll say it's 12345, and 3.14",
    "  leading\n\n and   trailing \t ",
    "naïve 日本語 🎬👍🏽🇺🇸 ½",
    "<|im_start|>user\nhi<|im_end|>",
    "\u200b\xa0x\r\n",
]


@pytest.fixture(scope="module")
def peer(llama_folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(llama_folder)


@pytest.fixture(scope="module")
def tokenizer(llama_folder: Path) -> Tokenizer:
    return Tokenizer.from_folder(llama_folder)


@pytest.fixture
def copy(llama_folder: Path, tmp_path: Path) -> Path:
    """A folder with the tokenizer's files, to be spoilt."""
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        if (llama_folder / name).is_file():
            shutil.copy(llama_folder / name, tmp_path / name)
    return tmp_path


@given(text=st.text(max_size=60))
@example(text=TRICKY[1])
@example(text=TRICKY[2])
@example(text=TRICKY[3])
@example(text=TRICKY[4])
@settings(max_examples=150, deadline=None)
def test_ids_and_texts_are_transformers(tokenizer: Tokenizer, peer: Any, text: str) -> None:
    ids = tokenizer.encode(text)
    assert ids == peer.encode(text)
    for skip in (True, False):
        assert tokenizer.decode(ids, skip_special_tokens=skip) == peer.decode(ids, skip_special_tokens=skip)
    assert tokenizer.pieces(ids) == peer.convert_ids_to_tokens(ids)
    assert b"".join(tokenizer.token_bytes(id) for id in ids).decode() == text


def test_special_tokens_and_sizes(tokenizer: Tokenizer, peer: Any) -> None:
    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id) == (
        peer.bos_token_id,
        peer.eos_token_id,
        peer.pad_token_id,
    )
    assert tokenizer.vocab_size == len(peer)
    assert tokenizer.special_ids == set(peer.all_special_ids)
    assert tokenizer.chat_template == peer.chat_template


def test_batch_is_one_by_one(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode_batch(TRICKY) == [tokenizer.encode(text) for text in TRICKY]


def test_a_saved_tokenizer_is_the_same_for_us_and_for_transformers(
    tokenizer: Tokenizer, peer: Any, tmp_path: Path
) -> None:
    from transformers import AutoTokenizer

    tokenizer.save(tmp_path)
    again, theirs = Tokenizer.from_folder(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    assert again.fingerprint == tokenizer.fingerprint
    assert again.chat_template == theirs.chat_template == peer.chat_template
    assert again.special_tokens == tokenizer.special_tokens
    for text in TRICKY:
        assert again.encode(text) == theirs.encode(text) == tokenizer.encode(text)


def test_the_fingerprint_follows_the_content(tokenizer: Tokenizer, copy: Path) -> None:
    assert Tokenizer.from_folder(copy).fingerprint == tokenizer.fingerprint
    config = json.loads((copy / "tokenizer_config.json").read_text())
    (copy / "tokenizer_config.json").write_text(json.dumps({**config, "eos_token": "<|endoftext|>"}))
    assert Tokenizer.from_folder(copy).fingerprint != tokenizer.fingerprint


@given(context=st.text("ab Sentiment:\n", max_size=20), continuation=st.sampled_from([" Positive", "x", " é", "\n"]))
@settings(max_examples=80, deadline=None)
def test_a_continuation_is_encoded_jointly(tokenizer: Tokenizer, context: str, continuation: str) -> None:
    before, after = tokenizer.encode_continuation(context, continuation)
    assert before + after == tokenizer.encode(context + continuation)
    assert after


def test_a_token_across_the_border_belongs_to_the_continuation(tokenizer: Tokenizer) -> None:
    apart = tokenizer.encode_continuation("Sentiment:", " Positive")
    assert tokenizer.encode_continuation("Sentiment: ", "Positive") == apart
    assert tokenizer.decode(apart[1]) == " Positive"


def test_a_chats_last_line_break_stays_with_the_context(tokenizer: Tokenizer) -> None:
    context = tokenizer.template.render([{"role": "user", "content": "A film"}])
    assert context.endswith("assistant\n")
    before, after = tokenizer.encode_continuation(context, "Positive", add_special_tokens=False)
    assert before == tokenizer.encode(context, add_special_tokens=False)
    assert tokenizer.decode(after) == "Positive"


def test_truncation_and_padding_of_the_file_are_switched_off(tokenizer: Tokenizer, copy: Path) -> None:
    backend = Backend.from_file(str(copy / "tokenizer.json"))
    backend.enable_truncation(4)
    backend.enable_padding(length=8)
    backend.save(str(copy / "tokenizer.json"))
    text = "Nobody should miss it. Nobody should miss it."
    assert Tokenizer.from_folder(copy).encode(text) == tokenizer.encode(text)


def test_declared_tokens_are_added_at_their_ids(tokenizer: Tokenizer, copy: Path) -> None:
    config = json.loads((copy / "tokenizer_config.json").read_text())
    new = {"content": "<tool>", "special": True, "normalized": False}
    config["added_tokens_decoder"] = {str(tokenizer.vocab_size): new}
    (copy / "tokenizer_config.json").write_text(json.dumps(config))
    read = Tokenizer.from_folder(copy)
    assert read.encode("a<tool>") == [*tokenizer.encode("a"), tokenizer.vocab_size]
    assert tokenizer.vocab_size in read.special_ids
    config["added_tokens_decoder"] = {str(tokenizer.vocab_size + 5): new}
    (copy / "tokenizer_config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="should have id"):
        Tokenizer.from_folder(copy)


@pytest.mark.parametrize("content", ["", "{", '{"version": "1.0"}', "[]"])
def test_a_malformed_file_is_named(copy: Path, content: str) -> None:
    (copy / "tokenizer.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"tokenizer\.json"):
        Tokenizer.from_folder(copy)


def test_what_is_missing_is_named(copy: Path) -> None:
    (copy / "tokenizer.json").unlink()
    with pytest.raises(CheckpointError, match=r"no tokenizer\.json"):
        Tokenizer.from_folder(copy)
    (copy / "tokenizer.model").write_bytes(b"x")
    with pytest.raises(UnsupportedError, match=r"tokenizer\.model"):
        Tokenizer.from_folder(copy)


def test_a_foreign_vocabulary_is_refused_by_both_names(tokenizer: Tokenizer) -> None:
    tokenizer.check_belongs(tokenizer.vocab_size)
    tokenizer.check_belongs(tokenizer.vocab_size + 120)  # a padded table
    for size in (tokenizer.vocab_size - 1, tokenizer.vocab_size + 5000):
        with pytest.raises(VocabularyMismatchError) as caught:
            tokenizer.check_belongs(size, "some-model")
        for part in (tokenizer.name, "some-model", f"{size:,}", f"{tokenizer.vocab_size:,}"):
            assert part in caught.value.what


def test_ids_outside_the_vocabulary_have_no_piece(tokenizer: Tokenizer) -> None:
    with pytest.raises(VocabularyMismatchError, match="not in the vocabulary"):
        tokenizer.pieces([tokenizer.vocab_size])


def test_named_templates_and_template_files(copy: Path) -> None:
    config = json.loads((copy / "tokenizer_config.json").read_text())
    named = [{"name": "tool_use", "template": "T"}, {"name": "default", "template": "D"}]
    (copy / "tokenizer_config.json").write_text(json.dumps({**config, "chat_template": named}))
    (copy / "chat_template.jinja").unlink(missing_ok=True)
    assert Tokenizer.from_folder(copy).chat_template == {"tool_use": "T", "default": "D"}
    (copy / "chat_template.jinja").write_text("F")
    assert Tokenizer.from_folder(copy).chat_template == "F"


def test_bytes_of_a_sentencepiece_vocabulary() -> None:
    pieces = ["<unk>", "<s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "a", "▁a"]
    vocabulary = {piece: id for id, piece in enumerate(pieces)}
    backend = Backend(models.BPE(vocabulary, [("▁", "a")], unk_token="<unk>", byte_fallback=True))
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    backend.add_special_tokens([AddedToken("<s>", normalized=False, special=True)])
    backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    tokenizer = Tokenizer(backend, {"bos_token": "<s>"})
    ids = tokenizer.encode("a é")
    assert ids[0] == tokenizer.bos_id
    assert b"".join(tokenizer.token_bytes(id) for id in ids[1:]).decode() == " a é"


def test_pre_tokenizers_with_metaspace_spell_a_space_as_one() -> None:
    backend = Backend(models.WordLevel({"▁hi": 0, "[UNK]": 1}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    assert Tokenizer(backend).token_bytes(0) == b" hi"
