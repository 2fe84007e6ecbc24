"""The tokenizer of a GGUF file, built by the tokenizers library from its vocabulary, merges and special tokens."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Any

from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers import Tokenizer as Backend

from germinal.checkpoints import gguf_pre_tokenizers
from germinal.errors import CheckpointError, UnsupportedError, nearest
from germinal.text.sentencepiece_file import SPACE, Piece, SentencePieceFile, sentencepiece_backend
from germinal.text.tokenizer import Tokenizer

KEY = "tokenizer.ggml.{}".format
BYTE_LEVEL, SENTENCEPIECE, UNIGRAM, WORDPIECE = "gpt2", "llama", "t5", "bert"
"""`tokenizer.ggml.model`: GGUF's names of tokenizer models, which are not tied to families."""
ROLES = {
    "bos_token": "bos_token_id",
    "eos_token": "eos_token_id",
    "unk_token": "unknown_token_id",
    "sep_token": "seperator_token_id",  # spelt so in the format
    "pad_token": "padding_token_id",
    "cls_token": "cls_token_id",
    "mask_token": "mask_token_id",
}
"""Special tokens -> keys."""


class Kind(IntEnum):
    """`tokenizer.ggml.token_type`."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


def tokenizer_from_gguf(metadata: Mapping[str, Any], name: str) -> Tokenizer:
    """Build the tokenizer that a GGUF file's metadata describes.

    Raises:
        CheckpointError: parts of it are missing or contradict each other.
        UnsupportedError: its model or its pre-tokenizer is not supported.
    """
    kind = metadata.get(KEY("model"))
    builders = {BYTE_LEVEL: _byte_level, SENTENCEPIECE: _sentencepiece, UNIGRAM: _sentencepiece, WORDPIECE: _wordpiece}
    if kind not in builders:
        raise UnsupportedError(
            f"the tokenizer model {kind!r} is not supported.", where=name, hint=nearest(str(kind), list(builders))
        )
    tokens, kinds = _vocabulary(metadata, name)
    if kind == WORDPIECE:
        tokens = [_spelt(token, of) for token, of in zip(tokens, kinds, strict=True)]
    if len(set(tokens)) != len(tokens):
        raise CheckpointError("the vocabulary lists a token twice.", where=name)
    backend = builders[kind](metadata, tokens, kinds, name)
    _add_special_tokens(backend, tokens, kinds)
    config = _config(metadata, tokens, kind, name)
    _add_post_processor(backend, metadata, config, kind)
    return Tokenizer(backend, config, metadata.get("tokenizer.chat_template"), name=name)


def _required(metadata: Mapping[str, Any], key: str, name: str) -> list[Any]:
    value = metadata.get(KEY(key))
    if value is None:
        raise CheckpointError(f"has no '{KEY(key)}', so its tokenizer cannot be built.", where=name)
    if not isinstance(value, list):
        raise CheckpointError(f"'{KEY(key)}' must be a list.", where=name)
    return value


def _vocabulary(metadata: Mapping[str, Any], name: str) -> tuple[list[str], list[int]]:
    """Tokens and kinds, without the unused tokens at the end that only fill the embedding."""
    tokens: list[str] = _required(metadata, "tokens", name)
    kinds: list[int] = metadata.get(KEY("token_type")) or [Kind.NORMAL] * len(tokens)
    if len(kinds) != len(tokens):
        raise CheckpointError(f"has {len(kinds):,} token types for {len(tokens):,} tokens.", where=name)
    used = max((id + 1 for id, kind in enumerate(kinds) if kind != Kind.UNUSED), default=0)
    return tokens[:used], kinds[:used]


def _byte_level(metadata: Mapping[str, Any], tokens: list[str], kinds: list[int], name: str) -> Backend:
    """GPT-2's byte-level BPE (Radford et al. 2019), with merges in the file."""
    before = gguf_pre_tokenizers.by_name(metadata.get(KEY("pre")), name)
    merges: Any = [tuple(merge.split(" ")) for merge in _required(metadata, "merges", name)]
    vocabulary = {token: id for id, token in enumerate(tokens)}
    try:
        backend = Backend(models.BPE(vocab=vocabulary, merges=merges, ignore_merges=before.ignore_merges))
    except Exception as error:  # the library raises bare Exception
        raise CheckpointError(f"the vocabulary and its merges contradict each other: {error}.", where=name) from error
    if before.normalizer is not None:
        backend.normalizer = before.normalizer
    backend.pre_tokenizer = before.pre_tokenizer
    backend.decoder = decoders.ByteLevel()
    return backend


def _sentencepiece(metadata: Mapping[str, Any], tokens: list[str], kinds: list[int], name: str) -> Backend:
    """SentencePiece's BPE with byte fallback, whose merges are ranked by scores, and its unigram model."""
    unigram = metadata.get(KEY("model")) == UNIGRAM
    scores: list[float] = _required(metadata, "scores", name)[: len(tokens)]
    # User-defined tokens are found in the text itself, before it is normalised, as llama.cpp does.
    own = [Kind.UNUSED if kind == Kind.USER_DEFINED else kind for kind in kinds]
    unknown = metadata.get(KEY("unknown_token_id"), 2 if unigram else 0)
    if len(scores) != len(tokens) or not 0 <= unknown < len(tokens):
        raise CheckpointError("the scores or the unknown token do not match the vocabulary.", where=name)
    file = SentencePieceFile(
        pieces=tuple(Piece(*each) for each in zip(tokens, scores, own, strict=True)),
        algorithm="unigram" if unigram else "bpe",
        byte_fallback=not unigram,
        unknown_id=unknown,
        charsmap=bytes(metadata.get(KEY("precompiled_charsmap")) or ()),
        add_dummy_prefix=bool(metadata.get(KEY("add_space_prefix"), True)),
        remove_extra_whitespaces=bool(metadata.get(KEY("remove_extra_whitespaces"), False)),
    )
    try:
        return sentencepiece_backend(file)
    except Exception as error:  # the library raises bare Exception
        raise CheckpointError(f"no tokenizer can be built from the vocabulary: {error}.", where=name) from error


def _wordpiece(metadata: Mapping[str, Any], tokens: list[str], kinds: list[int], name: str) -> Backend:
    """WordPiece (Wu et al. 2016) with the normaliser that Devlin et al. 2018 published it with."""
    unknown = metadata.get(KEY("unknown_token_id"), 100)
    if not 0 <= unknown < len(tokens):
        raise CheckpointError(f"the unknown token's id {unknown} is outside the vocabulary.", where=name)
    vocabulary = {token: id for id, token in enumerate(tokens)}
    backend = Backend(models.WordPiece(vocab=vocabulary, unk_token=tokens[unknown], max_input_chars_per_word=100))
    lowercase = bool(metadata.get(KEY("normalizer.lowercase"), True))
    accents = bool(metadata.get(KEY("normalizer.strip_accents"), lowercase))
    backend.normalizer = normalizers.BertNormalizer(
        clean_text=True, handle_chinese_chars=True, strip_accents=accents, lowercase=lowercase
    )
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece(prefix="##")
    return backend


def _spelt(token: str, kind: int) -> str:
    """A WordPiece token as in vocab.txt, which marks continuations of a word, while GGUF marks beginnings."""
    if kind == Kind.CONTROL:
        return token
    return token.removeprefix(SPACE) if token.startswith(SPACE) else f"##{token}"


def _add_special_tokens(backend: Backend, tokens: list[str], kinds: list[int]) -> None:
    """Add control tokens as special, so that they are not shown, and user-defined tokens as ordinary added tokens."""
    pairs = list(zip(tokens, kinds, strict=True))
    special = [token for token, kind in pairs if kind in (Kind.CONTROL, Kind.UNKNOWN)]
    backend.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in special])
    defined = [token for token, kind in pairs if kind == Kind.USER_DEFINED]
    backend.add_tokens([AddedToken(token, normalized=False, special=False) for token in defined])


def _config(metadata: Mapping[str, Any], tokens: list[str], kind: str, name: str) -> dict[str, Any]:
    """tokenizer_config.json for the tokenizer; its class makes transformers use tokenizer.json unchanged."""
    config: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
    ids = {role: metadata.get(KEY(key)) for role, key in ROLES.items()}
    if kind == WORDPIECE:  # whose first token may also be called bos
        ids["cls_token"] = next((id for role in ("cls_token", "bos_token") if (id := ids[role]) is not None), 101)
        ids["sep_token"] = 102 if ids["sep_token"] is None else ids["sep_token"]
        ids["unk_token"] = 100 if ids["unk_token"] is None else ids["unk_token"]
        ids["bos_token"] = None
    for role, id in ids.items():
        if id is None:
            continue
        if not 0 <= id < len(tokens):
            what = f"{role.removesuffix('_token')} token id {id} is outside the vocabulary of {len(tokens):,}."
            raise CheckpointError(what, where=name)
        config[role] = tokens[id]
    context = metadata.get(f"{metadata.get('general.architecture')}.context_length")
    if context is not None:
        config["model_max_length"] = context
    return config


def _add_post_processor(backend: Backend, metadata: Mapping[str, Any], config: Mapping[str, Any], kind: str) -> None:
    """Add the special tokens that the model puts around every text."""
    if kind == WORDPIECE:
        first, last = config["cls_token"], config["sep_token"]
        single, pair = [first, "$A", last], [first, "$A", last, "$B:1", f"{last}:1"]
    else:
        starts = kind == SENTENCEPIECE  # older files do not say
        if kind == BYTE_LEVEL:
            starts = gguf_pre_tokenizers.by_name(metadata.get(KEY("pre")), "tokenizer").adds_bos
        wanted = {
            "bos": metadata.get(KEY("add_bos_token"), starts),
            "eos": metadata.get(KEY("add_eos_token"), kind == UNIGRAM),
        }
        first, last = (config.get(f"{role}_token") if wanted[role] else None for role in ("bos", "eos"))
        single = [part for part in (first, "$A", last) if part is not None]
        pair = [*single, *(part.replace("$A", "$B") + ":1" for part in single)]
    around = [(text, backend.token_to_id(text)) for text in (first, last) if text is not None]
    if around:
        backend.post_processor = processors.TemplateProcessing(single=single, pair=pair, special_tokens=around)
