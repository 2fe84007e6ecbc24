"""The tokenizer layouts of families that were published before tokenizer.json."""

from __future__ import annotations

from germinal.text.tokenizer_layout import TokenizerLayout

_SENTENCES = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}

WORDPIECE = TokenizerLayout(
    special_tokens={
        "unk_token": "[UNK]",
        "sep_token": "[SEP]",
        "pad_token": "[PAD]",
        "cls_token": "[CLS]",
        "mask_token": "[MASK]",
    },
    single="cls_token $A sep_token",
    pair="cls_token $A sep_token $B:1 sep_token:1",
)
BYTE_LEVEL = TokenizerLayout(
    special_tokens=dict.fromkeys(("unk_token", "bos_token", "eos_token"), "<|endoftext|>"),
)
BYTE_LEVEL_SENTENCES = TokenizerLayout(
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
)
BYTE_LEVEL_UNICODE = TokenizerLayout(
    special_tokens=dict.fromkeys(("unk_token", "eos_token", "pad_token"), "<|endoftext|>"),
    split=(
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
        r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    ),
    unicode_form="NFC",
)
PIECES_WITH_SENTINELS = TokenizerLayout(
    special_tokens={"unk_token": "<unk>", "eos_token": "</s>", "pad_token": "<pad>"},
    single="$A eos_token",
    pair="$A eos_token $B eos_token",
    sentinels=100,
)
PIECES_SOURCE_AND_TARGET = TokenizerLayout(
    special_tokens={"unk_token": "<unk>", "eos_token": "</s>", "pad_token": "<pad>"},
    single="$A eos_token",
    pair="$A $B eos_token",
)
PIECES_AFTER_START = TokenizerLayout(
    special_tokens=_SENTENCES, single="bos_token $A", pair="bos_token $A bos_token:1 $B:1"
)
PIECES_AFTER_BOS = TokenizerLayout(
    special_tokens={"unk_token": "<unk>", "bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>"},
    single="bos_token $A",
    pair="bos_token $A bos_token:1 $B:1",
)
