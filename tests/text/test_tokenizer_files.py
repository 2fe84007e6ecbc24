"""Several files speak of one tokenizer: which of them counts is transformers' choice, compared here class by class.

Every class of the families is read from a folder in its own form, then with flags and tokens in the files beside
tokenizer.json, and written back: ids, text, segments and roles are the peer's each time.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tokenizer_folders as tiny
from tokenizer_folders import write
from tokenizers import AddedToken, Tokenizer, normalizers, pre_tokenizers
from transformers import AutoTokenizer

from germinal.checkpoints.tokenizer_files import folder_tokenizer
from germinal.errors import CheckpointError, UnsupportedError
from germinal.models.families.tokenizers import CLASSES

TEXTS = [
    "hello a",
    "Hello café.",
    "中国",
    "a<s>b </s> y",
    "a <x> b<y> hello",
    "a [MASK] hello <mask> a",
    "  hello  , it 's a .",
    "<extra_id_1> a<extra_id_0>",
    "a<|endoftext|>b<bos>",
    "12 cafe\u0301",
    "",
    "▁a ▁",
]
WORDPIECE = {"unk_token": "[UNK]", "sep_token": "[SEP]", "pad_token": "[PAD]", "cls_token": "[CLS]"}
WORDPIECE["mask_token"] = "[MASK]"
ENDS = {"bos_token": "<s>", "eos_token": "</s>"}
SENTENCES = {**ENDS, "unk_token": "<unk>", "sep_token": "</s>", "cls_token": "<s>", "pad_token": "<pad>"}
SENTENCES["mask_token"] = "<mask>"
T5 = {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
FOLDERS: dict[str, tuple[Callable[[], Tokenizer], dict[str, str], str | None]] = {
    "BertTokenizer": (tiny.wordpiece, WORDPIECE, "bert"),
    "BertTokenizerFast": (lambda: tiny.wordpiece(lowercase=False), WORDPIECE, "bert"),
    "DistilBertTokenizerFast": (tiny.wordpiece, WORDPIECE, "distilbert"),
    "ElectraTokenizer": (tiny.wordpiece, WORDPIECE, "bert"),
    "no class, bert": (tiny.wordpiece, WORDPIECE, "bert"),
    "PreTrainedTokenizerFast, bert": (lambda: tiny.wordpiece(lowercase=False), WORDPIECE, "bert"),
    "RobertaTokenizer": (lambda: tiny.byte_level(sentences=True), SENTENCES, "roberta"),
    "BartTokenizerFast": (lambda: tiny.byte_level(sentences=True), SENTENCES, "bart"),
    "no class, roberta": (lambda: tiny.byte_level(sentences=True), {}, "roberta"),
    "GPT2Tokenizer": (tiny.byte_level, ENDS, "gpt2"),
    "GPT2TokenizerFast, llama": (tiny.byte_level, ENDS, "llama"),
    "Qwen2Tokenizer": (tiny.qwen2, ENDS, "qwen2"),
    "LlamaTokenizerFast, qwen2": (tiny.qwen2, ENDS, "qwen2"),
    "LlamaTokenizer, byte level": (tiny.byte_level, ENDS, "llama"),
    "BloomTokenizerFast": (tiny.byte_level, ENDS, "bloom"),
    "PreTrainedTokenizerFast": (tiny.byte_level, ENDS, None),
    "LlamaTokenizer": (tiny.sentencepiece, {**ENDS, "unk_token": "<unk>"}, "llama"),
    "LlamaTokenizerFast, prepending": (lambda: tiny.sentencepiece(prepending=True), ENDS, "llama"),
    "LlamaTokenizer, mistral": (lambda: tiny.sentencepiece(prepending=True), ENDS, "mistral"),
    "GemmaTokenizer": (tiny.gemma, {}, "gemma3_text"),
    "T5Tokenizer": (tiny.t5, T5, "t5"),
    "T5TokenizerFast, sentinels added": (lambda: tiny.t5(sentinels=0), T5, "t5"),
    "XLMRobertaTokenizer": (tiny.xlm_roberta, SENTENCES, "bert"),
}
"""What each class reads; the name is that of the class, where there is one, and of what is special about the folder."""


def flags(content: str, **given: bool) -> dict[str, Any]:
    usual = {"lstrip": False, "rstrip": False, "normalized": False, "single_word": False, "special": True}
    return {"content": content, **usual, **given}


def folder(path: Path, name: str, **config: Any) -> Path:
    make, named, model_type = FOLDERS[name]
    named_class = {} if name.startswith("no class") else {"tokenizer_class": name.partition(",")[0]}
    return tiny.folder(path, make(), {**named_class, **named, **config}, model_type)


def assert_same(path: Path) -> None:
    """The same for transformers and for us: ids, text, pairs, segments and roles; and again when written back."""
    theirs, ours = AutoTokenizer.from_pretrained(path), folder_tokenizer(path, "tiny")
    for text in TEXTS:
        ids = ours.encode(text)
        assert ids == theirs(text)["input_ids"], text
        for skip in (True, False):
            assert ours.decode(ids, skip) == theirs.decode(ids, skip_special_tokens=skip), text
    pair, (found,) = theirs("hello", "a b"), ours.encodings([("hello", "a b")])
    assert found.ids == pair["input_ids"]
    assert ours.has_token_types == ("token_type_ids" in pair)
    if ours.has_token_types:
        assert found.type_ids == pair["token_type_ids"]
    for role in ("bos", "eos", "pad", "mask", "cls", "sep"):
        assert ours.special_tokens.get(f"{role}_token") == getattr(theirs, f"{role}_token")
    written = path / "written"
    written.mkdir()
    ours.save(written)
    if (path / "config.json").exists():
        (written / "config.json").write_text((path / "config.json").read_text())
    again, peer = folder_tokenizer(written, "tiny"), AutoTokenizer.from_pretrained(written)
    assert again.fingerprint == ours.fingerprint
    assert ("token_type_ids" in peer("a")) == ours.has_token_types
    for text in TEXTS:
        ids = ours.encode(text)
        assert peer(text)["input_ids"] == ids, f"written back: {text}"
        assert peer.decode(ids, skip_special_tokens=True) == ours.decode(ids), f"written back: {text}"


@pytest.mark.parametrize("name", FOLDERS)
def test_every_class_reads_its_own_form(name: str, tmp_path: Path) -> None:
    assert_same(folder(tmp_path, name))


LOWER = ({"do_lower_case": False}, {"do_lower_case": True}, {"strip_accents": False}, {"strip_accents": True})
LOWER = (*LOWER, {"tokenize_chinese_chars": False})
PREFIX = ({"add_prefix_space": True}, {"add_prefix_space": False})
FLAGS = [
    *(("BertTokenizer", config) for config in LOWER),
    *(("BertTokenizerFast", config) for config in LOWER[1:3]),
    ("PreTrainedTokenizerFast, bert", LOWER[1]),
    ("BertTokenizer", {"unk_token": "cafe"}),
    ("PreTrainedTokenizerFast, bert", {"unk_token": "cafe"}),
    ("BertTokenizer", {"cls_token": "hello", "sep_token": "."}),
    ("RobertaTokenizer", {"cls_token": "<pad>"}),
    ("XLMRobertaTokenizer", {"eos_token": "<mask>"}),
    ("BertTokenizer", {"model_input_names": ["input_ids", "attention_mask"]}),
    ("DistilBertTokenizerFast", {"model_input_names": ["input_ids", "token_type_ids", "attention_mask"]}),
    ("BertTokenizer", {"clean_up_tokenization_spaces": True}),
    ("T5Tokenizer", {"clean_up_tokenization_spaces": True}),
    ("GPT2Tokenizer", {"clean_up_tokenization_spaces": True}),
    ("T5Tokenizer", {"extra_ids": 2}),
    ("T5TokenizerFast, sentinels added", {"extra_ids": 0}),
    ("PreTrainedTokenizerFast", {"split_special_tokens": True}),
    ("LlamaTokenizer", {"add_bos_token": False, "add_eos_token": True}),
    *(
        (name, config)
        for name in ("RobertaTokenizer", "GPT2Tokenizer", "Qwen2Tokenizer", "LlamaTokenizer", "XLMRobertaTokenizer")
        for config in PREFIX
    ),
    ("PreTrainedTokenizerFast", PREFIX[0]),
    ("LlamaTokenizer", {"legacy": True}),
    ("LlamaTokenizerFast, prepending", {"legacy": False}),
    ("LlamaTokenizer, mistral", {"legacy": False}),
]


@pytest.mark.parametrize(("name", "config"), FLAGS, ids=lambda value: str(value).replace("'", ""))
def test_flags_of_tokenizer_config_json(name: str, config: dict[str, Any], tmp_path: Path) -> None:
    assert_same(folder(tmp_path, name, **config))


NEXT = {"<x>": 0, "<y>": 1}  # places behind the vocabulary
TOKENS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "a list of additional special tokens": ({"additional_special_tokens": ["<x>", "hello"]}, {}),
    "a list of extra special tokens": ({"extra_special_tokens": ["<y>"]}, {}),
    "named extra special tokens": ({"extra_special_tokens": {"image_token": "<x>"}}, {}),
    "a role of one model": ({"image_token": "<y>"}, {}),
    "a padding token that no file has": ({"pad_token": "<new>"}, {}),
    "a token with its flags": ({"bos_token": {"__type": "AddedToken", **flags("<x>", lstrip=True)}}, {}),
    "special_tokens_map.json wins": ({}, {"special_tokens_map.json": {"eos_token": "a"}}),
    "both name additional special tokens": (
        {"additional_special_tokens": ["<x>"]},
        {"special_tokens_map.json": {"additional_special_tokens": ["<y>"]}},
    ),
    "both name extra special tokens": (
        {"extra_special_tokens": ["<x>"]},
        {"special_tokens_map.json": {"extra_special_tokens": ["<y>"]}},
    ),
    "special_tokens_map.json has flags": ({}, {"special_tokens_map.json": {"eos_token": flags("<x>", rstrip=True)}}),
    "added_tokens.json": ({}, {"added_tokens.json": NEXT}),
    "added_tokens_decoder wins": (
        {"added_tokens_decoder": [flags("<x>", lstrip=True), flags("<y>", special=False, normalized=True)]},
        {"special_tokens_map.json": {"eos_token": "a"}},
    ),
}


@pytest.mark.parametrize("name", ["BertTokenizer", "GPT2Tokenizer", "PreTrainedTokenizerFast", "LlamaTokenizer"])
@pytest.mark.parametrize("told", TOKENS)
def test_tokens_that_the_files_beside_it_declare(told: str, name: str, tmp_path: Path) -> None:
    config, files = (dict(each) for each in TOKENS[told])
    size = FOLDERS[name][0]().get_vocab_size()
    if "added_tokens_decoder" in config:
        config["added_tokens_decoder"] = {str(size + i): each for i, each in enumerate(config["added_tokens_decoder"])}
    if "added_tokens.json" in files:
        files["added_tokens.json"] = {text: size + place for text, place in NEXT.items()}
    folder(tmp_path, name, **config)
    for file, value in files.items():
        write(tmp_path, file, value)
    assert_same(tmp_path)


def test_flags_of_a_token_that_tokenizer_json_has(tmp_path: Path) -> None:
    tokenizer = tiny.byte_level()
    size = tokenizer.get_vocab_size()
    tokenizer.add_tokens([AddedToken("<x>", special=False, normalized=False), AddedToken("<y>", special=False)])
    told = {str(size): flags("<x>", lstrip=True, rstrip=True)}
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<y>", "added_tokens_decoder": told}
    assert_same(tiny.folder(tmp_path, tokenizer, config))


def test_every_class_is_known_by_transformers() -> None:
    from transformers.models.auto.tokenization_auto import tokenizer_class_from_name

    needs_a_library = {"MarianTokenizer", "MT5Tokenizer"}  # sentencepiece; and a name that transformers 5 forgot
    for name in CLASSES.keys() - needs_a_library:
        theirs = tokenizer_class_from_name(name)
        assert ("token_type_ids" in theirs.model_input_names) == CLASSES[name].token_types, name


def test_steps_of_the_file_that_no_flag_describes_stay(tmp_path: Path) -> None:
    """SmolLM2's class is GPT2Tokenizer, and its file takes each digit alone; transformers 5 forgets that."""
    tokenizer = tiny.byte_level()
    digits = pre_tokenizers.Digits(individual_digits=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=True)])
    tiny.folder(tmp_path, tokenizer, {"tokenizer_class": "GPT2Tokenizer", **ENDS}, "llama")
    ours = folder_tokenizer(tmp_path, "tiny")
    assert ours.pieces(ours.encode("12 a")) == ["1", "2", "Ġa"]  # and the class's flag acts: no space in front


@pytest.mark.parametrize(
    ("steps", "config"),
    [
        (normalizers.Lowercase(), {"do_lower_case": False}),
        (normalizers.NFC(), {"do_lower_case": True}),
    ],
)
def test_steps_that_contradict_a_flag_are_refused(
    steps: normalizers.Normalizer, config: dict[str, Any], tmp_path: Path
) -> None:
    tokenizer = tiny.wordpiece()
    tokenizer.normalizer = steps
    tiny.folder(tmp_path, tokenizer, {"tokenizer_class": "BertTokenizer", **WORDPIECE, **config}, "bert")
    with pytest.raises(CheckpointError, match=r"tokenizer\.json .*do_lower_case of tokenizer_config\.json"):
        folder_tokenizer(tmp_path, "tiny")


@pytest.mark.parametrize(
    ("config", "files", "message"),
    [
        (
            {"added_tokens_decoder": {"0": flags("<x>")}},
            {},
            r"_config\.json: token '<x>' should have id 0.*tokenizer\.json has '<s>' there",
        ),
        ({"added_tokens_decoder": {"900": flags("<x>")}}, {}, r"'<x>' should have id 900.*there is a hole before it"),
        ({"added_tokens_decoder": {"1": flags("<s>")}}, {}, r"'<s>' should have id 1, but got 0"),
        ({}, {"added_tokens.json": {"<x>": 900}}, r"added_tokens\.json: token '<x>' should have id 900"),
    ],
)
def test_ids_that_contradict_each_other_are_refused(
    config: dict[str, Any], files: dict[str, Any], message: str, tmp_path: Path
) -> None:
    folder(tmp_path, "PreTrainedTokenizerFast", **config)
    for file, value in files.items():
        write(tmp_path, file, value)
    with pytest.raises(CheckpointError, match=message):
        folder_tokenizer(tmp_path, "tiny")


def test_a_class_without_a_reader_is_refused_where_only_it_knows_the_vocabulary(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("\n".join(tiny.WORDPIECE_SPECIAL))
    write(tmp_path, "config.json", {"model_type": "bert"})
    write(tmp_path, "tokenizer_config.json", {"tokenizer_class": "BertJapaneseTokenizer"})
    with pytest.raises(UnsupportedError, match="BertJapaneseTokenizer"):
        folder_tokenizer(tmp_path, "tiny")


def test_a_named_class_reads_the_vocabulary_of_another_family(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("\n".join([*tiny.WORDPIECE_SPECIAL, *tiny.WORDS, "<x>"]))
    write(tmp_path, "config.json", {"model_type": "roberta"})
    named = {"tokenizer_class": "BertTokenizer", "additional_special_tokens": ["<x>"], "do_lower_case": False}
    write(tmp_path, "tokenizer_config.json", named)
    assert_same(tmp_path)


@pytest.mark.parametrize("name", ["bert", "roberta", "gpt2"])
@pytest.mark.parametrize("flag", ["add_bos_token", "add_eos_token"])
def test_classes_that_put_their_own_borders_read_no_flag_for_them(name: str, flag: str, tmp_path: Path) -> None:
    if name == "bert":
        (tmp_path / "vocab.txt").write_text("\n".join([*tiny.WORDPIECE_SPECIAL, *tiny.WORDS]))
    else:
        state = json.loads(tiny.byte_level(sentences=True).to_str())["model"]
        write(tmp_path, "vocab.json", state["vocab"])
        (tmp_path / "merges.txt").write_text("\n".join(" ".join(pair) for pair in state["merges"]))
    write(tmp_path, "config.json", {"model_type": name})
    mask = {"mask_token": {"__type": "AddedToken", **flags("<mask>", lstrip=True)}}  # see test_bare_vocabulary
    write(tmp_path, "tokenizer_config.json", {flag: True, **(SENTENCES | mask if name != "bert" else WORDPIECE)})
    assert_same(tmp_path)


@pytest.mark.parametrize("model_type", ["bert", "gpt2"])
def test_a_class_reads_its_own_kind_of_vocabulary(model_type: str, tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("\n".join([*tiny.WORDPIECE_SPECIAL, *tiny.WORDS]))
    state = json.loads(tiny.byte_level().to_str())["model"]
    write(tmp_path, "vocab.json", state["vocab"])
    (tmp_path / "merges.txt").write_text("\n".join(" ".join(pair) for pair in state["merges"]))
    write(tmp_path, "config.json", {"model_type": model_type})
    write(tmp_path, "tokenizer_config.json", {})
    assert_same(tmp_path)


def test_leftovers_of_code_are_not_written(tmp_path: Path) -> None:
    folder(tmp_path, "PreTrainedTokenizerFast", auto_map={"AutoTokenizer": ["own.Tokenizer", None]})
    (tmp_path / "written").mkdir()
    folder_tokenizer(tmp_path, "tiny").save(tmp_path / "written")
    assert "auto_map" not in json.loads((tmp_path / "written" / "tokenizer_config.json").read_text())
