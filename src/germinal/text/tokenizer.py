"""The tokenizer of one model: a tokenizer of the `tokenizers` library with its special tokens and chat template.

It is read from a Hugging Face folder here, and from a GGUF file's metadata in `checkpoints`. It never truncates or pads
an encoding.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import tokenizers

from germinal import storage
from germinal.errors import CheckpointError, SettingError, VocabularyMismatchError
from germinal.text import chat_template_files
from germinal.text.chat_template import ChatTemplate, Sources
from germinal.text.clean_up import clean_up
from germinal.text.declared_tokens import NAMED_TOKENS, read_settings, token_text
from germinal.text.library import calling, check_text
from germinal.text.tokenizer_folder import read_backend
from germinal.text.tokenizer_layout import TokenizerLayout

_BYTE_PIECE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_SPARE_ROWS = (1024, 1 / 32)
"""Embedding tables are padded to round sizes. One with more spare rows than this number, and than this share of its
rows, belongs to another model. (Phi-2 has 905, DeepSeek LLM 2,385 of 102,400.)"""
WRITTEN_CLASS = "PreTrainedTokenizerFast"


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
        requested = backend.truncation or {}
        backend.no_truncation()
        backend.no_padding()
        self.backend = backend
        self.config = dict(config or {})
        self.truncation_side = str(self.config.get("truncation_side") or requested.get("direction", "right"))
        if self.truncation_side not in ("left", "right"):
            what = f"must be left or right, not {self.truncation_side!r:.40}."
            raise CheckpointError(what, where=f"{name}: truncation_side of tokenizer_config.json")
        self.chat_template = chat_template
        self.name = name
        added = backend.get_added_tokens_decoder()
        self.special_tokens = {key: text for key in NAMED_TOKENS if (text := token_text(self.config.get(key)))}
        self._named_ids = {key: self._id_of(text, key) for key, text in self.special_tokens.items()}
        self.special_ids = frozenset(self._named_ids.values()) | {id for id, token in added.items() if token.special}
        self.added_ids = frozenset(added)
        self.vocab_size = 1 + max(backend.get_vocab(with_added_tokens=True).values(), default=-1)
        self._rows = self.vocab_size
        self._model = "the model"

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
    def filler_id(self) -> int:
        """What fills up the rows of a batch, where nothing reads it: the padding token if it has a row, else 0."""
        return self.pad_id if self.pad_id is not None and self.pad_id < self._rows else 0

    @property
    def mask_id(self) -> int | None:
        return self._named_ids.get("mask_token")

    @property
    def max_length(self) -> int | None:
        """Most tokens of a text that the checkpoint asks for (`model_max_length` of tokenizer_config.json), or None."""
        length = self.config.get("model_max_length")
        return length if type(length) is int and length > 0 else None

    @property
    def template(self) -> ChatTemplate:
        """The chat template with this tokenizer's special tokens; rendering raises if the checkpoint has none."""
        variables = {**chat_template_files.variables(self.config), **self.special_tokens}
        return ChatTemplate(self.chat_template, variables, model=self.name)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the tokenizer's canonical JSON, its named special tokens, and what else changes ids or text."""
        named = json.dumps(self.special_tokens, sort_keys=True, ensure_ascii=True)
        if beside := {key: value for key, value in self._beside().items() if value}:
            named += json.dumps(beside, sort_keys=True)
        return hashlib.sha256(f"{self.backend.to_str()}\n{named}".encode()).hexdigest()

    def _beside(self) -> dict[str, bool]:
        """What changes ids or text and is not in tokenizer.json."""
        return {
            "clean_up_tokenization_spaces": self.cleans_up,
            "split_special_tokens": self.backend.encode_special_tokens,
            "truncated on the left": self.truncation_side == "left",
        }

    @cached_property
    def cleans_up(self) -> bool:
        """Whether decoding removes spaces before punctuation, as tokenizer_config.json says; never for BPE, whose
        spaces are the text's own."""
        spaces = "clean_up_tokenization_spaces"
        always = self.config.get(f"{spaces}_for_bpe_even_though_it_will_corrupt_output") is True
        bpe = isinstance(self.backend.model, tokenizers.models.BPE)
        return self.config.get(spaces) is True and (always or not bpe)

    @cached_property
    def has_token_types(self) -> bool:
        """Whether the model is told which of two texts a token belongs to: `model_input_names` of
        tokenizer_config.json, else the class's."""
        return "token_type_ids" in self.config.get("model_input_names", ())

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        """Token ids of a text, by default with the special tokens that the model's format puts around it.

        Raises:
            VocabularyMismatchError: a token has no row in the model's embedding; so do all methods that encode.
            SettingError: the text holds half of a character; so do all methods that encode.
        """
        return self._encoded(text, add_special_tokens).ids

    def encode_opening(self, text: str) -> list[int]:
        """Token ids of a text that the model goes on with: `encode`, without the special tokens that end a text.

        Some decoders' tokenizers append the end-of-sequence token to every text, also where an answer is to follow.
        """
        ids = self.encode(text)
        return ids[: len(ids) - self._num_ending]

    @cached_property
    def _num_ending(self) -> int:
        """How many special tokens are put behind a text."""
        mask = self.backend.encode("a").special_tokens_mask
        return next((place for place, special in enumerate(reversed(mask)) if not special), 0)

    def encode_batch(self, texts: Sequence[str], add_special_tokens: bool = True) -> list[list[int]]:
        """`encode` for many texts at once."""
        with self._encoding(texts):
            found = self.backend.encode_batch_fast(list(texts), add_special_tokens=add_special_tokens)
        return [self._with_rows(item).ids for item in found]

    def encodings(
        self,
        texts: Sequence[str | tuple[str, str]],
        add_special_tokens: bool = True,
        cut_to: int | None = None,
    ) -> list[tokenizers.Encoding]:
        """The library's encoding of each text or pair of texts: ids, segments, character and word positions.

        Args:
            cut_to: Most tokens of an encoding, special tokens included; what is beyond is in its `overflowing`. Of a
                pair the longer text is cut, at the checkpoint's `truncation_side`. None cuts nothing.

        Raises:
            SettingError: there is no room for a token beside the special ones.
        """
        pairs = any(isinstance(text, tuple) for text in texts)
        if cut_to is not None and cut_to <= self.backend.num_special_tokens_to_add(pairs):
            raise SettingError(f"leaves no room for a token beside the special ones: {cut_to}.", where="max_tokens")
        try:
            with self._encoding(texts):
                if cut_to is not None:
                    self.backend.enable_truncation(cut_to, direction=self.truncation_side)
                found = self.backend.encode_batch(list(texts), add_special_tokens=add_special_tokens)
        finally:
            self.backend.no_truncation()
        return [self._with_rows(item) for item in found]

    def windows(self, first: str, second: str, size: int, overlap: int) -> list[tokenizers.Encoding]:
        """Encode a pair with the second text split into overlapping windows.

        Args:
            first: The text that every window repeats.
            second: The text that is split.
            size: Most tokens of a window, the first text and special tokens included.
            overlap: Tokens that neighbouring windows share.
        """
        try:
            with self._encoding([(first, second)]):
                self.backend.enable_truncation(size, stride=overlap, strategy="only_second")
                encoding = self.backend.encode(first, second)
        finally:
            self.backend.no_truncation()
        return [self._with_rows(each) for each in (encoding, *encoding.overflowing)]

    def encode_with_spans(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Token ids without added special tokens, and the (start, end) character span of each."""
        encoding = self._encoded(text, add_special_tokens=False)
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
        whole, alone = (
            self.encode_opening(text) if add_special_tokens else self.encode(text, add_special_tokens=False)
            for text in (context + continuation, context)
        )
        border = 0
        for left, right in zip(alone, whole, strict=False):
            if left != right:
                break
            border += 1
        return whole[:border], whole[border:]

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        """The text of token ids; an id without a token has none."""
        text = self.decode_as_is(ids, skip_special_tokens)
        return clean_up(text) if self.cleans_up else text

    def decode_as_is(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        """`decode`, before spaces are cleaned up."""
        with calling("cannot be decoded", self.name):
            return self.backend.decode(ids, skip_special_tokens=skip_special_tokens)

    def has_piece(self, id: int) -> bool:
        """Whether the vocabulary has a token with this id: an embedding may have spare rows, a vocabulary holes."""
        return self.backend.id_to_token(id) is not None

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
        """Write tokenizer.json, its config, the special tokens map and the chat template into a folder.

        The flags of the class that the tokenizer was read with are in tokenizer.json by now, so that the class written
        is the one that takes the file as it is.
        """
        storage.write_text(folder / "tokenizer.json", self.backend.to_str(pretty=True))
        config = {key: value for key, value in self.config.items() if key != "auto_map"}  # its code is not written
        if self.truncation_side == "left":  # tokenizer.json may have said so
            config["truncation_side"] = "left"
        storage.write_json(folder / "tokenizer_config.json", config | {"tokenizer_class": WRITTEN_CLASS})
        storage.write_json(folder / "special_tokens_map.json", self.special_tokens)
        if self.chat_template is not None:
            chat_template_files.write_sources(folder, self.chat_template)

    @classmethod
    def from_folder(cls, folder: Path, name: str | None = None, layout: TokenizerLayout | None = None) -> Tokenizer:
        """Read a Hugging Face folder's tokenizer.

        Args:
            layout: What its class sets beside the files; required if there is no tokenizer.json, which None takes as
                it is.

        Raises:
            CheckpointError: a file is missing or malformed, or two contradict each other.
            UnsupportedError: the folder has vocabulary files only, and no layout was given.
        """
        config = read_settings(folder)
        backend = read_backend(folder, config, layout)
        templates = chat_template_files.read_sources(folder, config.pop("chat_template", None))
        return cls(backend, config, templates, name=name or folder.name)

    def check_belongs(self, model_vocab_size: int, model: str = "the model") -> None:
        """Check that the vocabulary fits the model's embedding table, and remember how many rows that has.

        Ids are counted, not tokens, for a vocabulary may have holes. Added tokens may be without a row (Gemma 3's
        <image_soft_token>, a padding token added later): only a text that produces such an id is refused. That the
        vocabulary itself has ids beyond the table, or ends far before it, shows that it is another model's.

        Raises:
            VocabularyMismatchError: the tokenizer belongs to another model.
        """
        missing = 0
        if self.vocab_size > model_vocab_size:
            own = (id for id in self.backend.get_vocab(with_added_tokens=False).values() if id not in self.added_ids)
            missing = 1 + max(own, default=-1) - model_vocab_size
        spare = model_vocab_size - self.vocab_size
        most, share = _SPARE_ROWS
        if missing <= 0 and spare <= max(most, share * model_vocab_size):
            self._rows, self._model = model_vocab_size, model
            return
        problem = "the model has no embedding for" if missing > 0 else "the tokenizer lacks"
        raise VocabularyMismatchError(
            f"tokenizer '{self.name}' has {self.vocab_size:,} tokens and model '{model}' has {model_vocab_size:,}: "
            f"{problem} {missing if missing > 0 else spare:,} of them.",
            hint="Use the tokenizer that was published with the model.",
        )

    def _encoded(self, text: str, add_special_tokens: bool) -> tokenizers.Encoding:
        with self._encoding([text]):
            found = self.backend.encode(text, add_special_tokens=add_special_tokens)
        return self._with_rows(found)

    @contextmanager
    def _encoding(self, texts: Sequence[str | tuple[str, str]]) -> Iterator[None]:
        """Call the library to encode texts."""
        for text in texts:
            for each in (text,) if isinstance(text, str) else text:
                check_text(each)
        with calling("cannot encode the text", self.name):
            yield

    def _with_rows(self, encoding: tokenizers.Encoding) -> tokenizers.Encoding:
        """The encoding, if every token has a row in the embedding."""
        if self._rows >= self.vocab_size:
            return encoding
        for id in encoding.ids:
            if id >= self._rows:
                raise VocabularyMismatchError(
                    f"token {self._piece(id)!r} has id {id:,}, and the embedding of '{self._model}' has "
                    f"{self._rows:,} rows.",
                    where=self.name,
                    hint="The tokenizer is longer than the model: write the text without this token.",
                )
        return encoding

    def _id_of(self, token: str, role: str) -> int:
        id = self.backend.token_to_id(token)
        if id is None:
            raise CheckpointError(f"{role} is {token!r}, which the vocabulary lacks.", where=self.name)
        return id

    def _piece(self, id: int) -> str:
        piece = self.backend.id_to_token(id)
        if piece is None:
            raise VocabularyMismatchError(
                f"token id {id} is not in the vocabulary of '{self.name}', whose ids end at {self.vocab_size - 1:,}."
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


def _bytes_of_characters() -> dict[str, int]:
    """GPT-2's reversible spelling of bytes as printable characters."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table = {chr(byte): byte for byte in printable}
    others = [byte for byte in range(256) if byte not in printable]
    return table | {chr(256 + place): byte for place, byte in enumerate(others)}


_BYTE_OF = _bytes_of_characters()
