"""Incremental decoding of token ids for streaming: the concatenated pieces equal the tokenizer's full decode.

Text is held back while it may still change: a partial UTF-8 character, or the beginning of a stop text. The text that a
token adds is found in one of two ways, both at a cost that does not grow with the answer's length:

- byte-level vocabularies (GPT-2, LLaMA 3, SmolLM2, Qwen, BLOOM) spell every token as bytes, which go through an
  incremental UTF-8 decoder;
- for all others (SentencePiece with byte fallback and its dropped first space, WordPiece, ...) a short window of tokens
  is decoded with and without the new ones, and the difference is their text, as in text-generation-inference.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Sequence
from typing import Protocol

from tokenizers import decoders

from germinal.text.clean_up import CleanUp
from germinal.text.tokenizer import Tokenizer

_REPLACEMENT = "\ufffd"
_BYTE_PIECE = re.compile(r"<0x[0-9A-Fa-f]{2}>")


class Detokenizer:
    """The text of one answer as it grows.

    Args:
        tokenizer: The model's tokenizer.
        stop: The answer ends before whichever of these texts is completed first.
        skip_special_tokens: Leave out the text of special tokens.

    Attributes:
        text: All text returned so far.
        stopped: Whether a stop text was reached; later tokens add no text.
    """

    def __init__(self, tokenizer: Tokenizer, stop: Sequence[str] = (), skip_special_tokens: bool = True) -> None:
        byte_level = isinstance(tokenizer.backend.decoder, decoders.ByteLevel)
        decoder: _Decoder = (_ByteDecoder if byte_level else _WindowDecoder)(tokenizer, skip_special_tokens)
        self._decoder = _CleanedDecoder(decoder) if tokenizer.cleans_up else decoder
        self._stop = tuple(stop)
        self._held = ""
        self._shown: list[str] = []
        self.stopped = False

    @property
    def text(self) -> str:
        return "".join(self._shown)

    def push(self, token_id: int) -> str:
        """Add the next token; return the text that is now final, which may be empty."""
        return "" if self.stopped else self._show(self._decoder.push(token_id), last=False)

    def finish(self) -> str:
        """End the answer and return the text held back. A partial character becomes U+FFFD, as in the full decode."""
        return "" if self.stopped else self._show(self._decoder.finish(), last=True)

    def _show(self, new: str, last: bool) -> str:
        text = self._held + new
        if (begin := self._first_stop(text)) is not None:
            self.stopped = True
            safe = begin
        else:
            safe = len(text) if last else len(text) - self._possible_stop(text)
        self._held = text[safe:]
        if safe:
            self._shown.append(text[:safe])
        return text[:safe]

    def _first_stop(self, text: str) -> int | None:
        """Start of the stop text that is completed first, or None."""
        found = [(at + len(stop), at) for stop in self._stop if (at := text.find(stop)) >= 0]
        return min(found)[1] if found else None

    def _possible_stop(self, text: str) -> int:
        """Number of characters at the end that may be the beginning of a stop text."""
        longest = max(map(len, self._stop), default=1) - 1
        for length in range(min(longest, len(text)), 0, -1):
            if any(stop.startswith(text[-length:]) for stop in self._stop):
                return length
        return 0


class _Decoder(Protocol):
    """Decodes tokens without splitting characters; the texts of `push` and `finish` add up to the full decode."""

    def push(self, token_id: int) -> str: ...

    def finish(self) -> str: ...


class _CleanedDecoder:
    """For tokenizers that clean up spaces after decoding."""

    def __init__(self, decoder: _Decoder) -> None:
        self._decoder, self._clean_up = decoder, CleanUp()

    def push(self, token_id: int) -> str:
        return self._clean_up.push(self._decoder.push(token_id))

    def finish(self) -> str:
        return self._clean_up.push(self._decoder.finish()) + self._clean_up.finish()


class _ByteDecoder:
    """For byte-level vocabularies: feeds the bytes of each token to an incremental UTF-8 decoder."""

    def __init__(self, tokenizer: Tokenizer, skip_special_tokens: bool) -> None:
        self._tokenizer = tokenizer
        self._skipped = _skipped_ids(tokenizer, skip_special_tokens)
        self._utf8 = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, token_id: int) -> str:
        if token_id in self._skipped or not self._tokenizer.has_piece(token_id):
            return ""
        if token_id in self._tokenizer.added_ids:  # spelled as text, not as bytes
            return self._utf8.decode(self._tokenizer.decode_as_is([token_id], skip_special_tokens=False).encode())
        return self._utf8.decode(self._tokenizer.token_bytes(token_id))

    def finish(self) -> str:
        return self._utf8.decode(b"", final=True)


class _WindowDecoder:
    """For all other vocabularies: decodes the previous tokens with and without the new ones and returns the difference.

    The previous tokens serve as context, because the first token of a decode may lose its space.
    """

    def __init__(self, tokenizer: Tokenizer, skip_special_tokens: bool) -> None:
        self._tokenizer = tokenizer
        self._skipped = _skipped_ids(tokenizer, skip_special_tokens)
        self._given: list[int] = []  # tokens whose text has been returned
        self._given_text = ""
        self._new: list[int] = []

    def push(self, token_id: int) -> str:
        piece = self._tokenizer.backend.id_to_token(token_id)
        if token_id in self._skipped or piece is None:
            return ""
        self._new.append(token_id)
        # A run of byte tokens decodes as a whole, to text or, if not UTF-8, to replacement characters only: wait for
        # its end.
        if _BYTE_PIECE.fullmatch(piece) or (text := self._decode(self._given + self._new)).endswith(_REPLACEMENT):
            return ""
        return self._give(text)

    def finish(self) -> str:
        return self._give(self._decode(self._given + self._new))

    def _give(self, text: str) -> str:
        added = text[len(self._given_text) :]
        alone = self._decode(self._new)
        if alone:
            self._given, self._given_text = self._new, alone
        else:  # no text by itself, such as a single leading space: the window cannot start with it
            self._given, self._given_text = self._given + self._new, text
        self._new = []
        return added

    def _decode(self, ids: Sequence[int]) -> str:
        return self._tokenizer.decode_as_is(ids, skip_special_tokens=False)


def _skipped_ids(tokenizer: Tokenizer, skip_special_tokens: bool) -> frozenset[int]:
    added = tokenizer.backend.get_added_tokens_decoder()
    return frozenset(id for id, token in added.items() if token.special) if skip_special_tokens else frozenset()
