"""What a tokenizer class of published models sets beside its files, as data; `models/families/` has the values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenizerLayout:
    """How text becomes tokens where the files leave it open, or where the class has its own word beside tokenizer.json.

    Without tokenizer.json the files tell the kind of tokenizer: vocab.txt is WordPiece, vocab.json with merges.txt is
    byte-level BPE, and spiece.model, tokenizer.model, sentencepiece.bpe.model or source.spm is SentencePiece, unigram
    or BPE. tokenizer_config.json overrides the values here.

    Attributes:
        vocabulary: The kind that the class reads where a folder has several; others are leftovers.
        special_tokens: The text of each role ("eos_token"); ignored if the vocabulary lacks it.
        single: Template around one text: roles, and $A for the text.
        pair: The same for two texts, $A and $B; ":1" after a part puts it in the second segment.
        lstrip: Roles whose token absorbs the whitespace before it.
        split: Byte-level BPE: pattern of the pieces that text is split into before merging; None is GPT-2's.
        unicode_form: Byte-level BPE: Unicode normal form applied to the text, or None.
        trim_offsets: Byte-level BPE: a token's character span excludes the space before it.
        sentinels: SentencePiece: number of "<extra_id_i>" tokens that follow the vocabulary, the highest i first.
        flags: Fields of tokenizer_config.json that the class sets on tokenizer.json too, with the class's defaults.
        borders: Who puts special tokens around a text beside a tokenizer.json: the class (`single`, `pair`), or the
            file.
        token_types: The model is told which of two texts a token belongs to, unless `model_input_names` says otherwise.
    """

    vocabulary: Literal["vocab.txt", "vocab.json", "sentencepiece"] | None = None
    special_tokens: Mapping[str, str] = field(default_factory=dict)
    single: str = "$A"
    pair: str = "$A $B:1"
    lstrip: tuple[str, ...] = ()
    split: str | None = None
    unicode_form: str | None = None
    trim_offsets: bool = False
    sentinels: int = 0
    flags: Mapping[str, Any] = field(default_factory=dict)
    borders: Literal["class", "file"] = "file"
    token_types: bool = False
