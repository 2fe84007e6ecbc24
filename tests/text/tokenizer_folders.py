"""Tiny tokenizers of every kind as folders that Hugging Face's libraries read, to be changed file by file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from germinal.models.families.tokenizers import BYTE_LEVEL_UNICODE

WORDS = ["hello", "Hello", "##s", "café", "cafe", "中", "国", "中国", "it", "'", "s", ".", ",", "a", "b", "y", "<", ">"]
WORDPIECE_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
SENTENCES = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
PIECES = ["▁", "▁hello", "▁a", *"heloabys<>x.,", "▁.", "'", "é", "1", "2"]


def write(folder: Path, name: str, value: Any) -> None:
    """A JSON file."""
    (folder / name).write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")


def wordpiece(lowercase: bool = True) -> Tokenizer:
    """BERT's."""
    vocabulary = {text: id for id, text in enumerate([*WORDPIECE_SPECIAL, *WORDS])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.add_special_tokens(WORDPIECE_SPECIAL)
    return tokenizer


def byte_level(sentences: bool = False, special: tuple[str, ...] = ("<s>", "</s>")) -> Tokenizer:
    """GPT-2's, or with the borders and roles of RoBERTa's."""
    texts = SENTENCES if sentences else [*special, "<|endoftext|>"]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {text: id for id, text in enumerate([*texts, *letters, "he", "Ġa"])}
    tokenizer = Tokenizer(models.BPE(vocabulary, [("h", "e"), ("Ġ", "a")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    if sentences:
        tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    tokenizer.add_special_tokens(texts)
    return tokenizer


def qwen2() -> Tokenizer:
    """Qwen2's: pieces of another pattern, in Unicode's composed form."""
    tokenizer = byte_level()
    tokenizer.normalizer = normalizers.NFC()
    pieces = pre_tokenizers.Split(Regex(BYTE_LEVEL_UNICODE.split), "isolated")
    letters = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pieces, letters])
    return tokenizer


def sentencepiece(prepending: bool = False) -> Tokenizer:
    """LLaMA's; `prepending` as older converters wrote it, with a normaliser that puts a space in front."""
    special = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    pieces = [*special, *(piece for piece in PIECES if piece != "▁."), "▁he", "▁h"]
    merges = [("▁", "h"), ("▁h", "e"), ("▁", "a")]
    tokenizer = Tokenizer(
        models.BPE({text: id for id, text in enumerate(pieces)}, merges, fuse_unk=True, byte_fallback=True)
    )
    if prepending:
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s>:1 $B:1", special_tokens=[("<s>", 1)]
    )
    tokenizer.add_special_tokens(special[:3])
    return tokenizer


def gemma() -> Tokenizer:
    """Gemma's: SentencePiece without a space in front."""
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *(f"<0x{byte:02X}>" for byte in range(256))]
    pieces = [*special, *(piece for piece in PIECES if piece not in ("▁hello", "▁."))]
    vocabulary = {text: id for id, text in enumerate(pieces)}
    tokenizer = Tokenizer(models.BPE(vocabulary, [("▁", "a")], unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A", pair="<bos> $A <bos>:1 $B:1", special_tokens=[("<bos>", 2)]
    )
    tokenizer.add_special_tokens(special[:5])
    return tokenizer


def unigram(special: tuple[str, ...], borders: tuple[str, str], sentinels: int = 0) -> Tokenizer:
    """T5's, or XLM-R's."""
    pieces = [(text, 0.0) for text in special] + [(text, -float(len(PIECES) - i)) for i, text in enumerate(PIECES)]
    pieces += [(f"<extra_id_{i}>", 0.0) for i in reversed(range(sentinels))]
    tokenizer = Tokenizer(models.Unigram(pieces, special.index("<unk>")))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(prepend_scheme="always")]
    )
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="always")
    single, pair = borders
    used = [text for text in dict.fromkeys(pair.split()) if not text.startswith("$")]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=single, pair=pair, special_tokens=[(text, special.index(text)) for text in used]
    )
    named = [AddedToken(text, special=True, normalized=False) for text in special]
    tokenizer.add_special_tokens([*named, *(f"<extra_id_{i}>" for i in reversed(range(sentinels)))])
    return tokenizer


def t5(sentinels: int = 4) -> Tokenizer:
    """T5's."""
    return unigram(("<pad>", "</s>", "<unk>"), ("$A </s>", "$A </s> $B </s>"), sentinels)


def xlm_roberta() -> Tokenizer:
    """XLM-RoBERTa's."""
    return unigram(("<s>", "<pad>", "</s>", "<unk>", "<mask>"), ("<s> $A </s>", "<s> $A </s> </s> $B </s>"))


def folder(path: Path, tokenizer: Tokenizer, config: dict[str, Any], model_type: str | None = None) -> Path:
    """A folder with tokenizer.json, tokenizer_config.json and, where the model type is given, config.json."""
    tokenizer.save(str(path / "tokenizer.json"))
    write(path, "tokenizer_config.json", config)
    if model_type is not None:
        write(path, "config.json", {"model_type": model_type})
    return path
