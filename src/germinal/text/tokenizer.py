"""The tokenizer of one model: a tokenizer of the `tokenizers` library with its special tokens and chat template.

It is read from a Hugging Face folder here, and from a GGUF file's metadata in `checkpoints`. It never truncates or pads
an encoding.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import tokenizers

from germinal import storage
from germinal.errors import CheckpointError, SettingError, UnsupportedError, VocabularyMismatchError
from germinal.text import chat_template_files
from germinal.text.bare_vocabulary import bare_backend, bare_files
from germinal.text.chat_template import ChatTemplate, Sources
from germinal.text.tokenizer_layout import TokenizerLayout

NAMED_TOKENS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
_BYTE_PIECE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_PADDED_ROWS = 1024
"""Embedding tables are padded to round sizes. A table with more spare rows than this belongs to another model."""


class Tokenizer:
    """Text to token ids and back, for one model.

    Args:
        backend: The tokenizer of the library. Truncation and padding that its file requests are switched off, so that
            only `ContextWindow`, which reports it, shortens a prompt.
        config: The fields of tokenizer_config.json (named special tokens and any others).
        chat_template: jinja source, or several by name, or None.
        name: The model's name, for error messages.
    """

    def __init__(
        self,
        backend: tokenizers.Tokenizer,
        config: Mapping[str, Any] | None = None,
        chat_template: Sources | None = None,
        name: str = "tokenizer",
    ) -> None:
        backend.no_truncation()
        backend.no_padding()
        self.backend = backend
        self.config = dict(config or {})
        self.chat_template = chat_template
        self.name = name
        added = backend.get_added_tokens_decoder()
        self.special_tokens = {key: text for key in NAMED_TOKENS if (text := _content(self.config.get(key)))}
        self._named_ids = {key: self._id_of(text, key) for key, text in self.special_tokens.items()}
        self.special_ids = frozenset(self._named_ids.values()) | {id for id, token in added.items() if token.special}
        self.added_ids = frozenset(added)
        self.vocab_size = max(backend.get_vocab_size(with_added_tokens=True), max(added, default=-1) + 1)

    @property
    def bos_id(self) -> int | None:
        return self._named_ids.get("bos_token")

    @property
    def eos_id(self) -> int | None:
        return self._named_ids.get("eos_token")

    @property
    def pad_id(self) -> int | None:
        return self._named_ids.get("pad_token")

    @property
    def mask_id(self) -> int | None:
        return self._named_ids.get("mask_token")

    @property
    def template(self) -> ChatTemplate:
        """The chat template with this tokenizer's special tokens; rendering raises if the checkpoint has none."""
        variables = {**chat_template_files.variables(self.config), **self.special_tokens}
        return ChatTemplate(self.chat_template, variables, model=self.name)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the tokenizer's canonical JSON and its named special tokens."""
        named = json.dumps(self.special_tokens, sort_keys=True, ensure_ascii=True)
        return hashlib.sha256(f"{self.backend.to_str()}\n{named}".encode()).hexdigest()

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        """Token ids of a text, by default with the special tokens that the model's format puts around it."""
        return self.backend.encode(text, add_special_tokens=add_special_tokens).ids

    def encode_batch(self, texts: Sequence[str], add_special_tokens: bool = True) -> list[list[int]]:
        """`encode` for many texts at once."""
        return [item.ids for item in self.backend.encode_batch_fast(list(texts), add_special_tokens=add_special_tokens)]

    def encodings(
        self,
        texts: Sequence[str | tuple[str, str]],
        add_special_tokens: bool = True,
        cut_to: int | None = None,
    ) -> list[tokenizers.Encoding]:
        """The library's encoding of each text or pair of texts: ids, segments, character and word positions.

        Args:
            cut_to: Most tokens of an encoding, special tokens included; what is beyond is in its `overflowing`. Of a
                pair the longer text is cut. None cuts nothing.

        Raises:
            SettingError: there is no room for a token beside the special ones.
        """
        if cut_to is None:
            return self.backend.encode_batch(list(texts), add_special_tokens=add_special_tokens)
        if cut_to <= self.backend.num_special_tokens_to_add(any(isinstance(text, tuple) for text in texts)):
            raise SettingError(f"leaves no room for a token beside the special ones: {cut_to}.", where="max_tokens")
        self.backend.enable_truncation(cut_to)
        try:
            return self.backend.encode_batch(list(texts), add_special_tokens=add_special_tokens)
        finally:
            self.backend.no_truncation()

    def windows(self, first: str, second: str, size: int, overlap: int) -> list[tokenizers.Encoding]:
        """Encode a pair with the second text split into overlapping windows.

        Args:
            first: The text that every window repeats.
            second: The text that is split.
            size: Most tokens of a window, the first text and special tokens included.
            overlap: Tokens that neighbouring windows share.
        """
        self.backend.enable_truncation(size, stride=overlap, strategy="only_second")
        try:
            encoding = self.backend.encode(first, second)
        finally:
            self.backend.no_truncation()
        return [encoding, *encoding.overflowing]

    def encode_with_spans(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Token ids without added special tokens, and the (start, end) character span of each."""
        encoding = self.backend.encode(text, add_special_tokens=False)
        return encoding.ids, encoding.offsets

    def encode_continuation(
        self, context: str, continuation: str, add_special_tokens: bool = True, *, apart: bool = False
    ) -> tuple[list[int], list[int]]:
        """Token ids of a context and of its continuation, encoded as one text and then split.

        A token that spans the border ("Sentiment: " and "Positive" share " Positive") counts as continuation, so that
        the two parts together are always the joint encoding. lm-evaluation-harness moves all whitespace at the end of
        the context to the continuation; here a line break at the end of a chat template stays in the context.

        Args:
            apart: Encode the two separately, for an encoder-decoder: its encoder reads the context, its decoder the
                continuation.
        """
        if apart:
            return self.encode(context, add_special_tokens), self.encode(continuation, add_special_tokens=False)
        whole = self.encode(context + continuation, add_special_tokens)
        alone = self.encode(context, add_special_tokens)
        border = 0
        for left, right in zip(alone, whole, strict=False):
            if left != right:
                break
            border += 1
        return whole[:border], whole[border:]

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        """The text of token ids."""
        return self.backend.decode(ids, skip_special_tokens=skip_special_tokens)

    def pieces(self, ids: Iterable[int]) -> list[str]:
        """Each token as spelled in the vocabulary (byte-level vocabularies spell a space as Ġ)."""
        return [self._piece(id) for id in ids]

    def token_bytes(self, id: int) -> bytes:
        """The bytes of text that one token stands for, which may be part of a UTF-8 character."""
        piece = self._piece(id)
        if id in self.added_ids:
            return piece.encode()
        if self._spelling == "byte-level":
            if not all(map(_BYTE_OF.__contains__, piece)):
                return piece.encode()  # plain text in the vocabulary, which the decoder leaves unchanged
            return bytes(_BYTE_OF[character] for character in piece)
        if self._spelling == "byte-fallback":
            if match := _BYTE_PIECE.fullmatch(piece):
                return bytes([int(match[1], 16)])
            return piece.replace("▁", " ").encode()
        return piece.encode()

    def save(self, folder: Path) -> None:
        """Write tokenizer.json, its config, the special tokens map and the chat template into a folder."""
        storage.write_text(folder / "tokenizer.json", self.backend.to_str(pretty=True))
        storage.write_json(folder / "tokenizer_config.json", self.config)
        storage.write_json(folder / "special_tokens_map.json", self.special_tokens)
        if self.chat_template is not None:
            chat_template_files.write_sources(folder, self.chat_template)

    @classmethod
    def from_folder(cls, folder: Path, name: str | None = None, layout: TokenizerLayout | None = None) -> Tokenizer:
        """Read a Hugging Face folder's tokenizer.

        Args:
            layout: What the family's vocabulary files do not state; required if there is no tokenizer.json.

        Raises:
            CheckpointError: a file is missing or malformed, or names a token that the vocabulary lacks.
            UnsupportedError: the folder has vocabulary files only, and no layout was given.
        """
        config = _read_object(folder / "tokenizer_config.json")
        for key, value in _read_object(folder / "special_tokens_map.json").items():
            if key in NAMED_TOKENS:
                config.setdefault(key, value)
        backend = _read_backend(folder, config, layout)
        _add_declared_tokens(backend, config, folder)
        templates = chat_template_files.read_sources(folder, config.pop("chat_template", None))
        return cls(backend, config, templates, name=name or folder.name)

    def check_belongs(self, model_vocab_size: int, model: str = "the model") -> None:
        """Check that the size of the vocabulary fits the model's embedding table.

        Raises:
            VocabularyMismatchError: the tokenizer has ids beyond the table, or far fewer tokens than table rows.
        """
        missing = self.vocab_size - model_vocab_size
        if 0 <= -missing <= _PADDED_ROWS:
            return
        problem = "the model has no embedding for" if missing > 0 else "the tokenizer lacks"
        raise VocabularyMismatchError(
            f"tokenizer '{self.name}' has {self.vocab_size:,} tokens and model '{model}' has {model_vocab_size:,}: "
            f"{problem} {abs(missing):,} of them.",
            hint="Use the tokenizer that was published with the model.",
        )

    def _id_of(self, token: str, role: str) -> int:
        id = self.backend.token_to_id(token)
        if id is None:
            raise CheckpointError(f"{role} is {token!r}, which the vocabulary lacks.", where=self.name)
        return id

    def _piece(self, id: int) -> str:
        piece = self.backend.id_to_token(id)
        if piece is None:
            raise VocabularyMismatchError(
                f"token id {id} is outside the vocabulary of '{self.name}', which has {self.vocab_size:,} tokens."
            )
        return piece

    @cached_property
    def _spelling(self) -> str:
        decoder = self.backend.decoder
        state = json.loads(decoder.__getstate__()) if decoder is not None else {}
        kinds = {part["type"] for part in state.get("decoders", [state]) if "type" in part}
        if "ByteLevel" in kinds:
            return "byte-level"
        return "byte-fallback" if kinds & {"ByteFallback", "Metaspace"} else "plain"


def _content(token: Any) -> str | None:
    """A special token is written as text, or as a mapping with its `content`."""
    if isinstance(token, Mapping):
        token = token.get("content")
    return token if isinstance(token, str) and token else None


def _read_backend(folder: Path, config: dict[str, Any], layout: TokenizerLayout | None) -> tokenizers.Tokenizer:
    path = folder / "tokenizer.json"
    if not path.is_file():
        files = bare_files(folder)
        if not files:
            raise CheckpointError("no tokenizer.json, so the model cannot read text.", where=str(folder))
        if layout is None:
            raise UnsupportedError(
                f"the tokenizer is in {files[0].name}, and the model family that defines how to read it is unknown.",
                where=str(folder),
                hint="Add a tokenizer.json, or the config.json of a family whose tokenizer is in such a file.",
            )
        return bare_backend(folder, config, layout)
    try:
        return tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exception
        raise CheckpointError(f"is not a tokenizer: {error}.", where=str(path)) from error


def _read_object(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise CheckpointError(f"is not valid JSON: {error}.", where=str(path)) from error
    if not isinstance(value, dict):
        raise CheckpointError("must hold a JSON object.", where=str(path))
    return value


def _add_declared_tokens(backend: tokenizers.Tokenizer, config: Mapping[str, Any], folder: Path) -> None:
    """Add the tokens that tokenizer_config.json declares and tokenizer.json lacks, with their declared ids."""
    declared = config.get("added_tokens_decoder") or {}
    known = backend.get_added_tokens_decoder()
    flags = ("single_word", "lstrip", "rstrip", "normalized", "special")
    for id, token in sorted((int(id), token) for id, token in declared.items()):
        if id in known:
            continue
        kept = {flag: bool(token[flag]) for flag in flags if flag in token}
        backend.add_tokens([tokenizers.AddedToken(token["content"], **kept)])
        if backend.token_to_id(token["content"]) != id:
            raise CheckpointError(
                f"token {token['content']!r} should have id {id}, but got {backend.token_to_id(token['content'])}.",
                where=str(folder / "tokenizer_config.json"),
            )


def _bytes_of_characters() -> dict[str, int]:
    """GPT-2's reversible spelling of bytes as printable characters."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table = {chr(byte): byte for byte in printable}
    others = [byte for byte in range(256) if byte not in printable]
    return table | {chr(256 + place): byte for place, byte in enumerate(others)}


_BYTE_OF = _bytes_of_characters()
