"""The tokenizer classes of published models, and which of them reads a folder.

A class that is not here reads tokenizer.json as it is; only such classes are that set nothing of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from germinal.errors import UnsupportedError
from germinal.text.tokenizer_layout import TokenizerLayout

_SENTENCES = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}

WORDPIECE = TokenizerLayout(
    vocabulary="vocab.txt",
    special_tokens={
        "unk_token": "[UNK]",
        "sep_token": "[SEP]",
        "pad_token": "[PAD]",
        "cls_token": "[CLS]",
        "mask_token": "[MASK]",
    },
    single="cls_token $A sep_token",
    pair="cls_token $A sep_token $B:1 sep_token:1",
    flags={"do_lower_case": True, "strip_accents": None, "tokenize_chinese_chars": True},
    borders="class",
    token_types=True,
)
WORDPIECE_WITHOUT_TYPES = replace(WORDPIECE, token_types=False)
BYTE_LEVEL = TokenizerLayout(
    vocabulary="vocab.json",
    special_tokens=dict.fromkeys(("unk_token", "bos_token", "eos_token"), "<|endoftext|>"),
    flags={"add_prefix_space": False},
)
BYTE_LEVEL_SENTENCES = TokenizerLayout(
    vocabulary="vocab.json",
    special_tokens={
        **_SENTENCES,
        "sep_token": "</s>",
        "cls_token": "<s>",
        "pad_token": "<pad>",
        "mask_token": "<mask>",
    },
    single="cls_token $A sep_token",
    pair="cls_token $A sep_token sep_token $B sep_token",
    lstrip=("mask_token",),
    trim_offsets=True,
    flags={"add_prefix_space": False},
    borders="class",
)
BYTE_LEVEL_UNICODE = TokenizerLayout(
    vocabulary="vocab.json",
    special_tokens=dict.fromkeys(("unk_token", "eos_token", "pad_token"), "<|endoftext|>"),
    split=(
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
        r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    ),
    unicode_form="NFC",
    flags={"add_prefix_space": False},
)
PIECES_WITH_SENTINELS = TokenizerLayout(
    vocabulary="sentencepiece",
    special_tokens={"unk_token": "<unk>", "eos_token": "</s>", "pad_token": "<pad>"},
    single="$A eos_token",
    pair="$A eos_token $B eos_token",
    sentinels=100,
    borders="class",
)
PIECES_SOURCE_AND_TARGET = TokenizerLayout(
    vocabulary="sentencepiece",
    special_tokens={"unk_token": "<unk>", "eos_token": "</s>", "pad_token": "<pad>"},
    single="$A eos_token",
    pair="$A $B eos_token",
)
PIECES_AFTER_START = TokenizerLayout(
    vocabulary="sentencepiece",
    special_tokens=_SENTENCES,
    single="bos_token $A",
    pair="bos_token $A bos_token:1 $B:1",
    flags={"add_prefix_space": True, "legacy": False},
)
PIECES_AFTER_BOS = TokenizerLayout(
    vocabulary="sentencepiece",
    special_tokens={
        "unk_token": "<unk>",
        "bos_token": "<bos>",
        "eos_token": "<eos>",
        "pad_token": "<pad>",
        "mask_token": "<mask>",
    },
    single="bos_token $A",
    pair="bos_token $A bos_token:1 $B:1",
)
PIECES_BETWEEN_SENTENCES = TokenizerLayout(
    vocabulary="sentencepiece",
    special_tokens=BYTE_LEVEL_SENTENCES.special_tokens,
    single="bos_token $A eos_token",
    pair="bos_token $A eos_token eos_token $B eos_token",
    flags={"add_prefix_space": True},
    borders="class",
)

CLASSES = {
    **dict.fromkeys(("BertTokenizer", "ElectraTokenizer", "MobileBertTokenizer", "SqueezeBertTokenizer"), WORDPIECE),
    "DistilBertTokenizer": WORDPIECE_WITHOUT_TYPES,
    "GPT2Tokenizer": BYTE_LEVEL,
    **dict.fromkeys(("RobertaTokenizer", "BartTokenizer", "LongformerTokenizer"), BYTE_LEVEL_SENTENCES),
    "Qwen2Tokenizer": BYTE_LEVEL_UNICODE,
    **dict.fromkeys(("T5Tokenizer", "MT5Tokenizer"), PIECES_WITH_SENTINELS),
    "MarianTokenizer": PIECES_SOURCE_AND_TARGET,
    "LlamaTokenizer": PIECES_AFTER_START,
    "GemmaTokenizer": PIECES_AFTER_BOS,
    "XLMRobertaTokenizer": PIECES_BETWEEN_SENTENCES,
}
"""`tokenizer_class` of tokenizer_config.json, without "Fast"."""

_GENERIC = ("PreTrainedTokenizer", "TokenizersBackend", "PythonBackend", "SentencePieceBackend")
_UNNAMED = {
    **dict.fromkeys(("bert", "distilbert"), WORDPIECE),
    **dict.fromkeys(("roberta", "bart"), BYTE_LEVEL_SENTENCES),
    "gpt2": BYTE_LEVEL,
    **dict.fromkeys(("qwen2", "qwen3"), BYTE_LEVEL_UNICODE),
    "gemma3_text": PIECES_AFTER_BOS,
    "t5": PIECES_WITH_SENTINELS,
}
"""Model types whose class transformers knows where the folder names none."""
_SETTLED = {"qwen2": BYTE_LEVEL_UNICODE, "mistral": None}
"""Model types whose class transformers takes from no folder: so many name a wrong one."""


def class_beside_file(
    model_type: str | None, tokenizer_class: str | None, byte_level: Callable[[], bool]
) -> TokenizerLayout | None:
    """The class that reads a tokenizer.json; None takes the file as it is. The choice is transformers 5's.

    Args:
        model_type: As in config.json, if there is one.
        tokenizer_class: As in tokenizer_config.json, else in config.json.
        byte_level: Whether the file has a step of byte-level BPE, which excludes a class for SentencePiece.
    """
    if model_type in _SETTLED:
        return _SETTLED[model_type]
    if tokenizer_class is None:
        return _UNNAMED.get(model_type or "")
    layout = CLASSES.get(tokenizer_class.removesuffix("Fast"))
    return None if layout is PIECES_AFTER_START and byte_level() else layout


def class_of_vocabulary(family: TokenizerLayout | None, tokenizer_class: str | None) -> TokenizerLayout | None:
    """The class that reads vocabulary files: the named one, else the family's.

    Raises:
        UnsupportedError: the class is not supported, so that the files may mean anything.
    """
    name = (tokenizer_class or _GENERIC[0]).removesuffix("Fast")
    if name in _GENERIC:
        return family
    if name not in CLASSES:
        raise UnsupportedError(
            f"the tokenizer class '{tokenizer_class}' is not supported without a tokenizer.json.",
            where="tokenizer_class of tokenizer_config.json",
            hint="Write a tokenizer.json: transformers' save_pretrained does, where its class has one.",
        )
    return CLASSES[name]
