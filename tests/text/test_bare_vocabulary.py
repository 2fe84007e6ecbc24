"""Tokenizers out of bare vocabulary files, against transformers' on the same files and the sentencepiece library's ids.

`sentencepiece/` holds small models and what the library itself makes of tricky texts; make_fixtures.py wrote both.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import transformers
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tiny_encoders import write_byte_level, write_wordpiece

from germinal.checkpoints import read_tokenizer
from germinal.checkpoints.tokenizer_files import folder_tokenizer
from germinal.errors import CheckpointError, UnsupportedError
from germinal.models.families import FAMILIES
from germinal.text.sentencepiece_file import read_sentencepiece
from germinal.text.tokenizer import Tokenizer

FIXTURES = Path(__file__).parent / "sentencepiece"
TRICKY = [
    "",
    " ",
    "Hello, World! I'm sure they'll say it's 12345",
    "  leading\n\n and   trailing \t ",
    "naïve ÉCOLE 日本語 ﬁn 🎬👍🏽 ½ İstanbul",
    "\u200b\xa0x\r\n\x00\ufffd",
    "[MASK] <mask> a <mask>b </s> <pad> <extra_id_0> [SEP]",
    "A film that is warm, funny and true.",
    "a" * 120,
]


def folder_of(folder: Path, model_type: str, **config: Any) -> Path:
    (folder / "config.json").write_text(json.dumps({"model_type": model_type}))
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


def assert_equal(ours: Tokenizer, theirs: Any, text: str, offsets: bool = True) -> None:
    expected = theirs(text, return_offsets_mapping=True)
    (found,) = ours.encodings([text])
    assert found.ids == expected["input_ids"]
    if offsets:
        assert found.offsets == expected["offset_mapping"]
    for skip in (True, False):
        decoded = theirs.decode(found.ids, skip_special_tokens=skip, clean_up_tokenization_spaces=False)
        assert ours.decode(found.ids, skip_special_tokens=skip) == decoded


def assert_equal_pairs(ours: Tokenizer, theirs: Any) -> None:
    expected = theirs("A film", "that is true", return_token_type_ids=True)
    (found,) = ours.encodings([("A film", "that is true")])
    assert (found.ids, found.type_ids) == (expected["input_ids"], expected["token_type_ids"])


def assert_same_special_tokens(ours: Tokenizer, theirs: Any) -> None:
    for role in ("bos", "eos", "pad", "mask"):
        assert getattr(ours, f"{role}_id") == getattr(theirs, f"{role}_token_id")
    assert ours.vocab_size == len(theirs)


@pytest.fixture(scope="module")
def wordpiece(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wordpiece")
    write_wordpiece(folder)
    return folder


@pytest.fixture(scope="module")
def byte_level(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bytes")
    write_byte_level(folder)
    return folder


@pytest.mark.parametrize(
    "config",
    [{}, {"do_lower_case": False}, {"strip_accents": False}, {"tokenize_chinese_chars": False}],
    ids=lambda config: next(iter(config), "plain"),
)
@pytest.mark.parametrize("model_type", ["bert", "distilbert"])
def test_wordpiece(wordpiece: Path, tmp_path: Path, model_type: str, config: dict[str, Any]) -> None:
    shutil.copytree(wordpiece, tmp_path, dirs_exist_ok=True)
    ours = read_tokenizer(str(folder_of(tmp_path, model_type, **config)))
    theirs = transformers.BertTokenizer.from_pretrained(tmp_path)
    for text in TRICKY:
        assert_equal(ours, theirs, text)
    assert_equal_pairs(ours, theirs)
    assert_same_special_tokens(ours, theirs)


@pytest.mark.parametrize("config", [{}, {"add_prefix_space": True}], ids=["plain", "prefix"])
@pytest.mark.parametrize(
    ("model_type", "peer"),
    [
        ("gpt2", "GPT2Tokenizer"),
        ("roberta", "RobertaTokenizer"),
        ("bart", "BartTokenizer"),
        ("qwen2", "Qwen2Tokenizer"),
    ],
)
def test_byte_level(byte_level: Path, tmp_path: Path, model_type: str, peer: str, config: dict[str, Any]) -> None:
    shutil.copytree(byte_level, tmp_path, dirs_exist_ok=True)
    named: dict[str, Any] = (
        {}
        if model_type in ("roberta", "bart")
        else {"eos_token": "</s>", "bos_token": "<s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    )
    if not named:  # transformers 5 forgets what RoBERTa's published tokenizer.json says of its mask, unless told
        named = {"mask_token": {"__type": "AddedToken", "content": "<mask>", "lstrip": True, "special": True}}
    ours = read_tokenizer(str(folder_of(tmp_path, model_type, **config, **named)))
    theirs = getattr(transformers, peer).from_pretrained(tmp_path)
    for text in TRICKY:
        assert_equal(ours, theirs, text)
    assert_equal_pairs(ours, theirs)
    assert_same_special_tokens(ours, theirs)


@given(text=st.text(max_size=40))
@example(text="▁ ▁a")
@settings(max_examples=100, deadline=None)
def test_any_text(wordpiece: Path, byte_level: Path, text: str) -> None:
    for folder, family, peer in ((wordpiece, "bert", "BertTokenizer"), (byte_level, "roberta", "RobertaTokenizer")):
        ours = Tokenizer.from_folder(folder, layout=FAMILIES[family].tokenizer)
        assert_equal(ours, getattr(transformers, peer).from_pretrained(folder), text)


def test_what_is_saved_is_a_tokenizer_json_for_transformers(wordpiece: Path, byte_level: Path, tmp_path: Path) -> None:
    for source, model_type in ((wordpiece, "bert"), (byte_level, "roberta")):
        folder = tmp_path / model_type
        shutil.copytree(source, folder)
        ours = read_tokenizer(str(folder_of(folder, model_type)))
        saved = tmp_path / f"{model_type}-saved"
        saved.mkdir()
        ours.save(saved)
        shutil.copy(folder / "config.json", saved / "config.json")
        theirs, again = transformers.AutoTokenizer.from_pretrained(saved), read_tokenizer(str(saved))
        for text in TRICKY:
            assert again.encode(text) == ours.encode(text) == theirs(text)["input_ids"]
        assert again.fingerprint == ours.fingerprint


def test_added_tokens_get_their_ids(byte_level: Path, tmp_path: Path) -> None:
    shutil.copytree(byte_level, tmp_path, dirs_exist_ok=True)
    size = len(json.loads((tmp_path / "vocab.json").read_text()))
    (tmp_path / "added_tokens.json").write_text(json.dumps({"<b>": size + 1, "<a>": size}))
    ours = read_tokenizer(str(folder_of(tmp_path, "gpt2")))
    assert [ours.encode(text) for text in ("<a>", "<b>")] == [[size], [size + 1]]
    (tmp_path / "added_tokens.json").write_text(json.dumps({"<b>": size + 3}))
    with pytest.raises(CheckpointError, match="should have id"):
        read_tokenizer(str(tmp_path))


@pytest.mark.parametrize(
    ("source", "model_type", "spoil", "error", "message"),
    [
        ("bytes", "gpt2", lambda f: (f / "vocab.json").write_text("["), CheckpointError, r"vocab\.json: is not valid"),
        ("bytes", "gpt2", lambda f: (f / "vocab.json").write_text('{"a": "b"}'), CheckpointError, "its id"),
        ("bytes", "gpt2", lambda f: (f / "merges.txt").write_text("a b c\n"), CheckpointError, "not a pair"),
        ("bytes", "gpt2", lambda f: (f / "merges.txt").write_text("zz yy\n"), CheckpointError, "contradict"),
        ("bytes", "gpt2", lambda f: (f / "merges.txt").unlink(), CheckpointError, r"no tokenizer\.json"),
        ("words", "bert", lambda f: (f / "vocab.txt").write_text("a\nb\n"), CheckpointError, r"has no \[UNK\]"),
        (
            "words",
            "bert",
            lambda f: (f / "vocab.txt").write_text("[UNK]\nb\n"),
            CheckpointError,
            "lacks the cls_token that the family puts around",
        ),
        ("words", "bloom", lambda f: None, UnsupportedError, r"vocab\.txt, and the model"),
        (
            "words",
            "bert",
            lambda f: (f / "config.json").unlink(),
            UnsupportedError,
            r"vocab\.txt, and the model",
        ),
    ],
)
def test_spoilt_files_are_named(
    wordpiece: Path,
    byte_level: Path,
    tmp_path: Path,
    source: str,
    model_type: str,
    spoil: Callable[[Path], Any],
    error: type[Exception],
    message: str,
) -> None:
    shutil.copytree({"bytes": byte_level, "words": wordpiece}[source], tmp_path, dirs_exist_ok=True)
    spoil(folder_of(tmp_path, model_type))
    with pytest.raises(error, match=message) as caught:
        folder_tokenizer(tmp_path, "tiny")
    assert str(tmp_path) in str(caught.value)


# SentencePiece


def golden() -> dict[str, Any]:
    return json.loads((FIXTURES / "expected.json").read_text(encoding="utf-8"))  # type: ignore[no-any-return]


def sentencepiece_folder(folder: Path, model: str, name: str, model_type: str, **config: Any) -> Path:
    shutil.copy(FIXTURES / f"{model}.model", folder / name)
    return folder_of(folder, model_type, **config)


@pytest.mark.parametrize("model", ["unigram", "bpe", "bpe_bytes"])
def test_ids_are_the_sentencepiece_librarys(tmp_path: Path, model: str) -> None:
    ours = read_tokenizer(str(sentencepiece_folder(tmp_path, model, "tokenizer.model", "llama", add_bos_token=False)))
    checked = 0
    for text, ids in golden()[model].items():
        assert ours.encode(text) == ids, text
        checked += 1
    assert checked > 20


def test_t5_has_sentinels_and_an_end(tmp_path: Path) -> None:
    file = read_sentencepiece(FIXTURES / "unigram.model")
    folder = sentencepiece_folder(tmp_path, "unigram", "spiece.model", "t5", extra_ids=20)
    ours = read_tokenizer(str(folder))
    theirs = transformers.T5Tokenizer(
        vocab=[(piece.text, piece.score) for piece in file.pieces]
        + [(f"<extra_id_{i}>", 0.0) for i in range(19, -1, -1)],
        extra_ids=20,
        _spm_precompiled_charsmap=file.charsmap,
    )
    for text in ("A film that is warm", "warm <extra_id_0> and <extra_id_19> true.", "naïve ﬁn ½", ""):
        assert ours.encode(text) == theirs(text)["input_ids"], text
    assert ours.vocab_size == len(file.pieces) + 20
    assert ours.decode(ours.encode("A film that is warm")) == "A film that is warm"
    assert ours.encode("A film")[-1] == ours.eos_id


def test_llama_has_a_start_unless_told_otherwise(tmp_path: Path) -> None:
    file = read_sentencepiece(FIXTURES / "bpe_bytes.model")
    folder = sentencepiece_folder(tmp_path, "bpe_bytes", "tokenizer.model", "llama")
    ours = read_tokenizer(str(folder))
    assert ours.encode("A film")[0] == ours.bos_id
    assert ours.decode(ours.encode("A film é 🎬")) == "A film é 🎬"
    assert b"".join(ours.token_bytes(id) for id in ours.encode("é 🎬")[1:]).decode() == " é 🎬"
    assert read_tokenizer(str(folder_of(tmp_path, "llama", add_bos_token=False))).encode("A film")[0] != ours.bos_id
    ended = read_tokenizer(str(folder_of(tmp_path, "llama", add_eos_token=True)))
    assert (ended.encode("A")[0], ended.encode("A")[-1]) == (ours.bos_id, ours.eos_id)
    assert ours.vocab_size == len(file.pieces)


def test_source_and_vocabulary_of_two_files(tmp_path: Path) -> None:
    """Ids are those of vocab.json, which numbers the pieces of two models, and the source's model cuts the text."""
    file = read_sentencepiece(FIXTURES / "unigram.model")
    pieces = [piece.text for piece in file.pieces if piece.text not in ("</s>", "<unk>", "<pad>")]
    ordered = ["</s>", "<unk>", *reversed(pieces), "▁Bonjour", "<pad>"]
    folder = sentencepiece_folder(tmp_path, "unigram", "source.spm", "marian")
    (folder / "vocab.json").write_text(json.dumps({piece: id for id, piece in enumerate(ordered)}))
    ours = read_tokenizer(str(folder))
    for text, ids in golden()["unigram"].items():
        expected = [ordered.index(file.pieces[id].text) for id in ids]
        assert ours.encode(text) == [*expected, ours.eos_id], text
    assert ours.decode([ordered.index("▁Bonjour")]) == "Bonjour"
    (folder / "vocab.json").write_text(json.dumps({"<unk>": 5}))
    with pytest.raises(CheckpointError, match="from 0 without gaps"):
        read_tokenizer(str(folder))


@pytest.mark.parametrize("content", [b"", b"\x0a\xff", b"\x0a\x05ab", b"hello world, this is no model", b"\xff" * 40])
def test_a_file_that_is_no_model(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "spiece.model").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"spiece\.model: is not a SentencePiece model"):
        folder_tokenizer(folder_of(tmp_path, "t5"), "tiny")
