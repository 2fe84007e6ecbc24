"""The tokenizer of a GGUF file, built by the tokenizers library from its vocabulary, merges and special tokens."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from enum import IntEnum
from typing import Any

from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers import Tokenizer as Backend

from germinal.checkpoints import gguf_pre_tokenizers
from germinal.checkpoints.gguf_chat_templates import chat_templates
from germinal.errors import CheckpointError, GerminalError, UnsupportedError, nearest
from germinal.text.sentencepiece_file import SPACE, Piece, SentencePieceFile, sentencepiece_backend
from germinal.text.tokenizer import WRITTEN_CLASS, Tokenizer
from germinal.text.tokenizer_folder import MODEL_INPUTS

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
_DEFAULT_IDS: dict[str, dict[str, int]] = {
    SENTENCEPIECE: {"bos_token": 1, "eos_token": 2, "unk_token": 0},
    UNIGRAM: {"eos_token": 1, "unk_token": 2, "pad_token": 0},
    WORDPIECE: {"cls_token": 101, "sep_token": 102, "unk_token": 100, "pad_token": 0, "mask_token": 103},
}
"""Ids that files leave out; llama.cpp's."""
ENDS = frozenset(
    {
        *("<|eot_id|>", "<|eom_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>", "<end_of_utterance>"),
        *("<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>", "[EOS]", "<｜end▁of▁sentence｜>"),
        *("<EOT>", "_<EOT>", "[EOT]"),
        # Between the files of a repository, where a model of code that fills gaps would begin another file.
        *("<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<|file_sep|>"),
        *("<|repo_name|>", "<|fim_repo|>", "<fim-repo>", "<reponame>", "<REPO>"),
    }
)
"""Tokens that end an answer by their text, whether or not a key names them, as in llama.cpp."""
TWIN = "\ue000"
"""Marks a token whose text a later one has too: a private-use character, which no text is split into."""


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
    tokens, kinds = _vocabulary(metadata, kind, name)
    try:
        backend = builders[kind](metadata, tokens, kinds, name)
        _add_special_tokens(backend, tokens, kinds)
    except GerminalError:
        raise
    except Exception as error:  # the library raises bare Exception
        raise CheckpointError(f"no tokenizer can be built from the vocabulary: {error}.", where=name) from error
    if any(token.endswith(TWIN) for token in tokens):
        backend.decoder = decoders.Sequence([decoders.Replace(Regex(f"{TWIN}+$"), ""), backend.decoder])
    config = _config(metadata, tokens, kind, name)
    _add_post_processor(backend, metadata, config, kind)
    return Tokenizer(backend, config, chat_templates(metadata), name=name)


def end_ids(metadata: Mapping[str, Any]) -> list[int]:
    """The tokens that end an answer: that of the end of a text, those of turns, and those known by their text."""
    tokens = metadata.get(KEY("tokens")) or []
    named = [metadata.get(KEY(f"{role}_token_id")) for role in ("eos", "eot", "eom", "fim_pad", "fim_rep", "fim_sep")]
    if named[0] is None:
        named[0] = _DEFAULT_IDS.get(metadata.get(KEY("model"), ""), {}).get("eos_token")
    known = [id for id, token in enumerate(tokens) if token in ENDS]
    return [id for id in dict.fromkeys([*named, *(metadata.get(KEY("eos_token_ids")) or []), *known]) if id is not None]


def _required(metadata: Mapping[str, Any], key: str, name: str) -> list[Any]:
    value = metadata.get(KEY(key))
    if value is None:
        raise CheckpointError(f"has no '{KEY(key)}', so its tokenizer cannot be built.", where=name)
    if not isinstance(value, list):
        raise CheckpointError(f"'{KEY(key)}' must be a list.", where=name)
    return value


def _vocabulary(metadata: Mapping[str, Any], kind: str, name: str) -> tuple[list[str], list[int]]:
    """Tokens and kinds, without the unused tokens at the end that only fill the embedding.

    A token that ends answers is a control token, whatever the file says. Of tokens with one text, texts are encoded
    with the last, and the others can still be decoded.
    """
    tokens: list[str] = _required(metadata, "tokens", name)
    kinds: list[int] = metadata.get(KEY("token_type")) or [Kind.NORMAL] * len(tokens)
    if len(kinds) != len(tokens):
        raise CheckpointError(f"has {len(kinds):,} token types for {len(tokens):,} tokens.", where=name)
    used = max((id + 1 for id, of in enumerate(kinds) if of != Kind.UNUSED), default=0)
    named = [id for key in ROLES.values() if (id := metadata.get(KEY(key))) is not None and id < len(tokens)]
    used = max(used, *(id + 1 for id in named), 0)
    tokens = [token or f"[EMPTY_{id}]" for id, token in enumerate(tokens[:used])]
    kinds = [Kind.CONTROL if token in ENDS else of for token, of in zip(tokens, kinds, strict=False)]
    if kind == WORDPIECE:
        tokens = [_spelt(token, of) for token, of in zip(tokens, kinds, strict=True)]
    return _distinct(tokens), kinds


def _distinct(tokens: list[str]) -> list[str]:
    """The tokens with `TWIN`s after each whose text a later one has too."""
    if len(set(tokens)) == len(tokens):
        return tokens
    later: Counter[str] = Counter()
    marked = []
    for token in reversed(tokens):
        marked.append(token + TWIN * later[token])
        later[token] += 1
    return marked[::-1]


def _byte_level(metadata: Mapping[str, Any], tokens: list[str], kinds: list[int], name: str) -> Backend:
    """GPT-2's byte-level BPE (Radford et al. 2019), with merges in the file."""
    before = gguf_pre_tokenizers.by_name(metadata.get(KEY("pre")), name)
    vocabulary = {token: id for id, token in enumerate(tokens)}
    listed = [tuple(merge.split(" ")) for merge in _required(metadata, "merges", name)]
    merges: Any = _without_results(listed, vocabulary, name)
    try:
        backend = Backend(models.BPE(vocab=vocabulary, merges=merges, ignore_merges=before.ignore_merges))
    except Exception as error:  # the library raises bare Exception
        raise CheckpointError(f"the vocabulary and its merges contradict each other: {error}.", where=name) from error
    if before.normalizer is not None:
        backend.normalizer = before.normalizer
    backend.pre_tokenizer = before.pre_tokenizer
    backend.decoder = decoders.ByteLevel()
    return backend


def _without_results(merges: list[tuple[str, ...]], vocabulary: Mapping[str, int], name: str) -> list[tuple[str, ...]]:
    """The merges whose result is a token.

    llama.cpp undoes the others at the end. That is the same as leaving them out where they join two bytes that no other
    merge takes on that side; elsewhere they are refused.
    """
    idle = [pair for pair in merges if "".join(pair) not in vocabulary]
    if not idle:
        return merges
    kept = [pair for pair in merges if "".join(pair) in vocabulary]
    starts, ends = {pair[0] for pair in kept}, {pair[-1] for pair in kept}
    for pair in idle:
        if any(len(part) != 1 for part in pair) or pair[-1] in starts or pair[0] in ends:
            raise CheckpointError(
                f"the vocabulary and its merges contradict each other: {' + '.join(pair)} give no token.", where=name
            )
    return kept


def _sentencepiece(metadata: Mapping[str, Any], tokens: list[str], kinds: list[int], name: str) -> Backend:
    """SentencePiece's BPE with byte fallback, whose merges are ranked by scores, and its unigram model."""
    unigram = metadata.get(KEY("model")) == UNIGRAM
    scores: list[float] = _required(metadata, "scores", name)[: len(tokens)]
    # User-defined tokens are found in the text itself, before it is normalised, as llama.cpp does.
    own = [Kind.UNUSED if kind == Kind.USER_DEFINED else kind for kind in kinds]
    unknown = metadata.get(KEY("unknown_token_id"), 2 if unigram else 0)
    if len(scores) != len(tokens) or not 0 <= unknown < len(tokens) or any(map(math.isnan, scores)):
        raise CheckpointError("the scores or the unknown token do not match the vocabulary.", where=name)
    file = SentencePieceFile(
        pieces=tuple(Piece(*each) for each in zip(tokens, scores, own, strict=True)),
        algorithm="unigram" if unigram else "bpe",
        byte_fallback=not unigram,
        unknown_id=unknown,
        charsmap=bytes(value & 255 for value in metadata.get(KEY("precompiled_charsmap")) or ()),
        add_dummy_prefix=bool(metadata.get(KEY("add_space_prefix"), True)),
        remove_extra_whitespaces=bool(metadata.get(KEY("remove_extra_whitespaces"), False)),
    )
    return sentencepiece_backend(file)


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
    config: dict[str, Any] = {"tokenizer_class": WRITTEN_CLASS, "clean_up_tokenization_spaces": False}
    config["model_input_names"] = list(MODEL_INPUTS[kind == WORDPIECE])
    ids = {role: metadata.get(KEY(key)) for role, key in ROLES.items()}
    if kind == WORDPIECE:  # whose first token may also be called bos
        ids["cls_token"] = ids["bos_token"] if ids["cls_token"] is None else ids["cls_token"]
        ids["bos_token"] = None
    for role, usual in _DEFAULT_IDS.get(kind, {}).items():
        if ids[role] is None and (usual < len(tokens) or role in ("cls_token", "sep_token", "unk_token")):
            ids[role] = usual
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
        around = [first, last]
    else:
        before = gguf_pre_tokenizers.by_name(metadata.get(KEY("pre")), "tokenizer") if kind == BYTE_LEVEL else None
        wanted = {  # older files do not say
            "bos": metadata.get(KEY("add_bos_token"), before.adds_bos if before else kind == SENTENCEPIECE),
            "eos": metadata.get(KEY("add_eos_token"), kind == UNIGRAM),
            "sep": metadata.get(KEY("add_sep_token"), before.adds_sep if before else False),
        }
        first, last, between = (config.get(f"{role}_token") if of else None for role, of in wanted.items())
        single = [part for part in (first, "$A", last) if part is not None]
        second = [part.replace("$A", "$B") + ":1" for part in single]
        pair = [*single, *second] if between is None else [*single, between, *second[first is not None :]]
        around = [first, last, between]
    known = [(text, backend.token_to_id(text)) for text in dict.fromkeys(around) if text is not None]
    if known:
        backend.post_processor = processors.TemplateProcessing(single=single, pair=pair, special_tokens=known)
