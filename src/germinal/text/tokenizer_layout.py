"""What a family's older tokenizer files leave unsaid, as data; `models/families/` holds the values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenizerLayout:
    """How text becomes tokens in a folder without tokenizer.json.

    The kind of tokenizer is told by the files: vocab.txt is WordPiece, vocab.json with merges.txt byte-level BPE, and
    spiece.model, tokenizer.model or source.spm SentencePiece, of either kind. What tokenizer_config.json says wins.

    Attributes:
        special_tokens: Text of each role, where the vocabulary has it.
        single: What stands around a text: roles, and $A for the text.
        pair: The same for two texts, $A and $B; ":1" after a part puts it into the second segment.
        lstrip: Roles that swallow the white space before them.
        split: Byte-level: the pattern of a piece that merges do not leave; None is GPT-2's.
        unicode_form: Byte-level: the Unicode normal form of the text, or None.
        trim_offsets: Byte-level: a token's characters do not count the space before it.
        sentinels: SentencePiece: so many "<extra_id_i>" follow the vocabulary, the highest first.
    """

    special_tokens: Mapping[str, str] = field(default_factory=dict)
    single: str = "$A"
    pair: str = "$A $B:1"
    lstrip: tuple[str, ...] = ()
    split: str | None = None
    unicode_form: str | None = None
    trim_offsets: bool = False
    sentinels: int = 0
