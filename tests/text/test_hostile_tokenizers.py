"""Tokenizers of somebody else: damaged, contradicting themselves, or made to take a machine's time and memory.

Whatever is in the files, reading them and encoding with them ends soon, with a `GerminalError` or with token ids.
"""

from __future__ import annotations

import base64
import json
import random
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tokenizer_folders as tiny
from tokenizer_folders import write

from germinal.checkpoints.tokenizer_files import folder_tokenizer
from germinal.errors import GerminalError, SettingError

WORDS = {"type": "WordLevel", "vocab": {"u": 0, "a": 1}, "unk_token": "u"}
SINGLE, PAIR = {"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}


@pytest.fixture(autouse=True)
def _soon() -> Iterator[None]:
    """Each of these took seconds, gigabytes or the whole process."""
    begin = time.process_time()
    yield
    assert time.process_time() - begin < 5


def replace(content: str, **pattern: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": pattern, "content": content}


def grow(*steps: dict[str, Any]) -> dict[str, Any]:
    return {"type": "Sequence", "normalizers": list(steps)}


def charsmap(trie: bytes, texts: bytes = b"a\0") -> dict[str, Any]:
    content = struct.pack("<I", len(trie)) + trie + texts
    return {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(content).decode()}


def template(single: list[Any], pair: list[Any] | None = None, **special: Any) -> dict[str, Any]:
    pair = [SINGLE, PAIR] if pair is None else pair
    return {"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": special}


def bpe(**changed: Any) -> dict[str, Any]:
    return {"type": "BPE", "vocab": {"a": 0, "éb": 1, "aéb": 2}, "merges": [["a", "éb"]], **changed}


def wordpiece(**changed: Any) -> dict[str, Any]:
    pieces = {"type": "WordPiece", "vocab": {"u": 0, "a": 1}, "unk_token": "u", "continuing_subword_prefix": "##"}
    return {**pieces, "max_input_chars_per_word": 100, **changed}


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "replacements that multiply": ({"normalizer": grow(*[replace("aaaa", String="a")] * 20)}, "more than 64"),
    "one replacement that multiplies": ({"normalizer": replace("a" * 100, Regex="a")}, "more than 64"),
    "a replacement of nothing": ({"normalizer": replace("a" * 80, String="")}, "more than 64"),
    "a long insertion": ({"normalizer": {"type": "Prepend", "prepend": "a" * 10**6}}, "inserts more than"),
    "decoding that multiplies": (
        {"decoder": {"type": "Sequence", "decoders": [replace("aaaa", String="a")] * 20}},
        "decoder: its replacements",
    ),
    "thousands of steps": ({"normalizer": grow(*[{"type": "NFC"}] * 5000)}, "5,000 steps"),
    "a character map without a trie": ({"normalizer": charsmap(b"")}, "map of characters"),
    "a character map cut short": ({"normalizer": charsmap(struct.pack("<I", 1))}, "map of characters is damaged"),
    "a character map that points outside": (
        {"normalizer": charsmap(struct.pack("<256I", *[0xFFFFFC00 & 0x7FFFFFFF] * 256))},
        "map of characters is damaged",
    ),
    "a character map that is not base64": (
        {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "*"}},
        "map of characters is damaged",
    ),
    "a template with a token that it lacks": (
        {"post_processor": template([{"SpecialToken": {"id": "[X]", "type_id": 0}}, SINGLE])},
        r"uses '\[X\]'",
    ),
    "a template with the second text alone": ({"post_processor": template([PAIR])}, "each text once"),
    "a template that repeats the text": ({"post_processor": template([SINGLE] * 1000)}, "each text once"),
    "a merge that lacks the prefix": ({"model": bpe(continuing_subword_prefix="#")}, "does not start with '#'"),
    "random merges": ({"model": bpe(dropout=0.5)}, "at random"),
    "words of any length": ({"model": wordpiece(max_input_chars_per_word=10**12)}, "at most 1,000"),
    "decoding that strips what is not there": (
        {"decoder": {"type": "Strip", "content": "a", "start": 0, "stop": 10**9}},
        "more than one character",
    ),
    "pieces of no length": ({"pre_tokenizer": {"type": "FixedLength", "length": 0}}, "pieces of length 0"),
    "an added token's id that the library cannot keep": (
        {
            "added_tokens": [
                {"id": 900, **dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)}
                | {"content": "<x>", "special": True}
            ]
        },
        "should have id 900",
    ),
    "ids below zero": ({"model": {**WORDS, "vocab": {"u": -1}}}, "is not a tokenizer"),
    "another kind of model": ({"model": {"type": "Oracle"}}, "is not a tokenizer"),
    "steps that are no steps": ({"normalizer": [[]]}, "is not a tokenizer"),
    "added tokens that are no list": ({"added_tokens": 7}, "must list tokens"),
    "a unigram model of long pieces": (
        {"model": {"type": "Unigram", "unk_id": 0, "vocab": [["a" * i, -1.0] for i in range(1, 2000)]}},
        "a piece of 513 characters",
    ),
    "added tokens of any length": (
        {"added_tokens": [{"id": 2, "content": "x" * 3_000_000, "special": True}]},
        "3,000,000 characters",
    ),
}


def save(folder: Path, **parts: Any) -> Path:
    whole = dict.fromkeys(("truncation", "padding", "normalizer", "pre_tokenizer", "post_processor", "decoder"))
    write(folder, "tokenizer.json", {"version": "1.0", **whole, "added_tokens": [], "model": WORDS, **parts})
    return folder


@pytest.mark.parametrize("name", REFUSED)
def test_what_the_library_would_do_or_end_in_is_refused_before(
    name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    parts, message = REFUSED[name]
    with pytest.raises(GerminalError, match=message) as caught:
        folder_tokenizer(save(tmp_path, **parts), "tiny")
    assert "tokenizer.json" in str(caught.value)
    assert capfd.readouterr().err == ""  # where the library panics, it prints a trace


@pytest.mark.parametrize("text", ["{" * 10**5, "[" * 10**5, '{"a":' * 10**5, "\xff", "", "null", "[]", '{"a": 1e999}'])
@pytest.mark.parametrize("file", ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"])
def test_files_that_are_no_json_objects(file: str, text: str, tmp_path: Path) -> None:
    save(tmp_path)
    (tmp_path / file).write_bytes(text.encode("latin-1"))
    if file == "tokenizer.json" or text != '{"a": 1e999}':
        with pytest.raises(GerminalError, match=file.replace(".", r"\.")):
            folder_tokenizer(tmp_path, "tiny")


def outcome(folder: Path) -> str | None:
    """The error of reading a folder's tokenizer and using it; every other exception is a failure."""
    try:
        tokenizer = folder_tokenizer(folder, "tiny")
        tokenizer.decode(tokenizer.encode("hello a 12 <x>"))
    except GerminalError as error:
        return str(error)
    return None


ODD = [None, True, -1, 10**12, 1.5, "", "x", [], {}, [[]], [None], {"x": None}, {"content": 7}, {"content": "x"}]
KEYS = ["bos_token", "eos_token", "unk_token", "pad_token", "additional_special_tokens", "extra_special_tokens"]
KEYS += ["added_tokens_decoder", "extra_ids", "do_lower_case", "strip_accents", "tokenize_chinese_chars", "legacy"]
KEYS += ["add_prefix_space", "add_bos_token", "split_special_tokens", "clean_up_tokenization_spaces"]
KEYS += ["model_input_names", "tokenizer_class", "model_max_length", "image_token", "chat_template"]


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("kind", ["wordpiece", "byte_level", "sentencepiece", "t5", "vocab.txt"])
def test_any_value_of_any_key_is_read_or_refused(kind: str, key: str, tmp_path: Path) -> None:
    classes = {"wordpiece": "BertTokenizer", "byte_level": "GPT2Tokenizer", "t5": "T5Tokenizer"}
    classes |= {"sentencepiece": "LlamaTokenizer", "vocab.txt": "BertTokenizer"}
    if kind == "vocab.txt":
        (tmp_path / "vocab.txt").write_text("\n".join(tiny.WORDPIECE_SPECIAL))
        write(tmp_path, "config.json", {"model_type": "bert"})
    else:
        getattr(tiny, kind)().save(str(tmp_path / "tokenizer.json"))
    for value in ODD:
        (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": classes[kind], key: value}))
        found = outcome(tmp_path)
        assert found is None or str(tmp_path) in found


DECODER = {"0": {"content": 5}, "-1": {"content": "<x>"}, "1000000000000": {"content": "<x>"}, "x": {"content": "<x>"}}
DECODER |= {"²": {"content": "<x>"}, "3": [], "4": {"content": ""}, "5": {"content": "<x>", "lstrip": 3}}


@pytest.mark.parametrize("id", DECODER)
def test_entries_of_added_tokens_decoder(id: str, tmp_path: Path) -> None:
    write(save(tmp_path), "tokenizer_config.json", {"added_tokens_decoder": {id: DECODER[id]}})
    with pytest.raises(GerminalError, match=r"tokenizer_config\.json: added_tokens_decoder"):
        folder_tokenizer(tmp_path, "tiny")


@pytest.mark.parametrize("extra_ids", [10**6, -1, "many", 2.5, True])
def test_numbers_of_sentinels(extra_ids: Any, tmp_path: Path) -> None:
    tiny.folder(tmp_path, tiny.t5(), {"tokenizer_class": "T5Tokenizer", "extra_ids": extra_ids}, "t5")
    with pytest.raises(GerminalError, match=r"extra_ids: must be a whole number from 0 to"):
        folder_tokenizer(tmp_path, "tiny")


def test_a_pattern_without_end_is_given_up(tmp_path: Path) -> None:
    """The library counts the steps of a pattern; a text on which they run out cannot be encoded."""
    split = {"type": "Split", "pattern": {"Regex": "(a+)+b"}, "behavior": "Isolated", "invert": False}
    tokenizer = folder_tokenizer(save(tmp_path, pre_tokenizer=split), "tiny")
    assert tokenizer.encode("ab") == [0]
    with pytest.raises(GerminalError, match=r"cannot encode the text: .*retry-limit"):
        tokenizer.encode("a" * 40)


def test_a_text_with_half_a_character_is_refused_as_such(tmp_path: Path) -> None:
    tokenizer = folder_tokenizer(save(tmp_path), "tiny")
    for encode in (tokenizer.encode, tokenizer.encode_with_spans, lambda text: tokenizer.encode_batch([text])):
        with pytest.raises(SettingError, match=r"U\+D800 at character 1"):
            encode("a\ud800")


@pytest.mark.parametrize("model", ["bpe", "bpe_bytes", "unigram"])
def test_sentencepiece_files_cut_short_or_changed(model: str, tmp_path: Path) -> None:
    whole = (Path(__file__).parent / "sentencepiece" / f"{model}.model").read_bytes()
    write(tmp_path, "config.json", {"model_type": "t5"})
    chance = random.Random(model)
    for _ in range(60):
        damaged = bytearray(whole[: chance.randrange(len(whole))] if chance.random() < 0.3 else whole)
        for _ in range(chance.choice((0, 1, 8)) if damaged else 0):
            damaged[chance.randrange(len(damaged))] = chance.choice((0, 1, 0x0A, 0x7F, 0x80, 0xFF))
        (tmp_path / "spiece.model").write_bytes(damaged)
        outcome(tmp_path)


@pytest.mark.parametrize("kind", ["wordpiece", "byte_level", "qwen2", "sentencepiece", "gemma", "t5"])
def test_any_value_anywhere_in_tokenizer_json(kind: str, tmp_path: Path) -> None:
    whole = getattr(tiny, kind)().to_str()
    chance = random.Random(kind)
    for _ in range(80):
        state = json.loads(whole)
        place, key = chance.choice(list(_places(state)))
        place[key] = chance.choice([*ODD, [place[key]] * 300, "a" * 2000])
        write(tmp_path, "tokenizer.json", state)
        outcome(tmp_path)


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every place in a JSON value, of long lists and mappings the first few."""
    if isinstance(value, dict | list):
        keys = list(value) if isinstance(value, dict) else range(len(value))
        for key in keys[:12]:
            yield value, key
            yield from _places(value[key])
