"""The tokenizer inside a GGUF file: vocabulary, merges and special tokens, made into one of the `tokenizers` library.

A GGUF file names the way of splitting text before merging (`tokenizer.ggml.pre`) without spelling it out. The ways
known here are those of the tokenizer.json published with the models that use them, and any other is refused by name:
a tokenizer that is nearly right is wrong. (transformers 5.24 does not know `smollm`: reading a GGUF file itself, it
splits white space before digits otherwise than SmolLM2's own tokenizer.json and llama.cpp do.)
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Any

from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers import Tokenizer as Backend

from germinal.errors import CheckpointError, UnsupportedError, nearest
from germinal.text.tokenizer import Tokenizer

_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_QWEN2 = _LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
_LLAMA3_NAMES = frozenset({"llama-bpe", "llama3", "llama-v3"})


class _Kind(IntEnum):
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
        CheckpointError: a part of it is missing or contradicts another.
        UnsupportedError: its model or its way of splitting is not known.
    """
    kind = metadata.get("tokenizer.ggml.model")
    builders = {"gpt2": _byte_level, "llama": _sentencepiece}
    if kind not in builders:
        raise UnsupportedError(
            f"the tokenizer is of the kind {kind!r}.", where=name, hint=nearest(str(kind), list(builders))
        )
    tokens: list[str] = _required(metadata, "tokens", name)
    backend = builders[kind](metadata, tokens, name)
    _add_special_tokens(backend, tokens, metadata.get("tokenizer.ggml.token_type") or [])
    config = _config(metadata, tokens, name)
    _add_borders(backend, metadata, tokens, kind)
    return Tokenizer(backend, config, metadata.get("tokenizer.chat_template"), name=name)


def _required(metadata: Mapping[str, Any], key: str, name: str) -> Any:
    value = metadata.get(f"tokenizer.ggml.{key}")
    if value is None:
        raise CheckpointError(f"has no 'tokenizer.ggml.{key}', so its tokenizer cannot be built.", where=name)
    return value


def _splitting(pre: str | None, name: str) -> tuple[normalizers.Normalizer | None, pre_tokenizers.PreTokenizer]:
    """Normalizer and pre-tokenizer by the name llama.cpp gives the pair."""

    def split(pattern: str) -> pre_tokenizers.PreTokenizer:
        pieces = pre_tokenizers.Split(Regex(pattern), behavior="isolated")
        return pre_tokenizers.Sequence([pieces, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])

    gpt2 = pre_tokenizers.ByteLevel(add_prefix_space=False)
    known: dict[str, tuple[normalizers.Normalizer | None, pre_tokenizers.PreTokenizer]] = {
        "gpt-2": (None, gpt2),
        "smollm": (None, pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), gpt2])),
        **dict.fromkeys(_LLAMA3_NAMES, (None, split(_LLAMA3))),
        "qwen2": (normalizers.NFC(), split(_QWEN2)),
    }
    if pre not in known:
        raise UnsupportedError(
            f"the tokenizer splits text by {pre!r}, which is not known.",
            where=name,
            hint=nearest(str(pre), list(known)),
        )
    return known[pre]


def _byte_level(metadata: Mapping[str, Any], tokens: list[str], name: str) -> Backend:
    """GPT-2's byte-level BPE (Radford et al. 2019), with merges in the file."""
    pre = metadata.get("tokenizer.ggml.pre")
    normalizer, pre_tokenizer = _splitting(pre, name)
    merges = [tuple(merge.split(" ")) for merge in _required(metadata, "merges", name)]
    # Llama 3's vocabulary has whole words that its merges do not reach; they are looked up first.
    backend = _backend(tokens, merges, name, ignore_merges=pre in _LLAMA3_NAMES)
    if normalizer is not None:
        backend.normalizer = normalizer
    backend.pre_tokenizer = pre_tokenizer
    backend.decoder = decoders.ByteLevel()
    return backend


def _sentencepiece(metadata: Mapping[str, Any], tokens: list[str], name: str) -> Backend:
    """SentencePiece's BPE with byte fallback (LLaMA 1 and 2, Mistral); the tokens' scores rank the merges."""
    if metadata.get("tokenizer.ggml.remove_extra_whitespaces"):
        raise UnsupportedError("the tokenizer removes extra white space, which is not handled.", where=name)
    scores: list[float] = _required(metadata, "scores", name)
    unknown = metadata.get("tokenizer.ggml.unknown_token_id", 0)
    backend = _backend(
        tokens, _merges_by_score(tokens, scores), name, unk_token=tokens[unknown], fuse_unk=True, byte_fallback=True
    )
    prefix = metadata.get("tokenizer.ggml.add_space_prefix", True)
    steps: list[normalizers.Normalizer] = [normalizers.Prepend("▁")] if prefix else []
    backend.normalizer = normalizers.Sequence([*steps, normalizers.Replace(" ", "▁")])
    undo: list[decoders.Decoder] = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    backend.decoder = decoders.Sequence([*undo, decoders.Strip(" ", 1, 0)] if prefix else undo)
    return backend


def _backend(tokens: list[str], merges: list[Any], name: str, **options: Any) -> Backend:
    vocabulary = {token: id for id, token in enumerate(tokens)}
    if len(vocabulary) != len(tokens):
        raise CheckpointError("the vocabulary lists a token twice.", where=name)
    try:
        return Backend(models.BPE(vocab=vocabulary, merges=merges, **options))
    except Exception as error:  # the library raises bare Exception
        raise CheckpointError(f"the vocabulary and its merges contradict each other: {error}.", where=name) from error


def _merges_by_score(tokens: list[str], scores: list[float]) -> list[tuple[str, str]]:
    """Every way to put a token together out of two others, the best-scored token first."""
    ids = {token: id for id, token in enumerate(tokens)}
    found: list[tuple[float, int, int, str, str]] = []
    for token, score in zip(tokens, scores, strict=True):
        for place in range(1, len(token)):
            left, right = token[:place], token[place:]
            if left in ids and right in ids:
                found.append((-score, ids[left], ids[right], left, right))
    return [(left, right) for *_, left, right in sorted(found)]


def _add_special_tokens(backend: Backend, tokens: list[str], kinds: list[int]) -> None:
    """Control tokens are special (never shown); user-defined ones are found whole in a text and shown."""
    pairs = list(zip(tokens, kinds, strict=False))
    special = [token for token, kind in pairs if kind in (_Kind.CONTROL, _Kind.UNKNOWN)]
    backend.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in special])
    defined = [token for token, kind in pairs if kind == _Kind.USER_DEFINED]
    backend.add_tokens([AddedToken(token, normalized=False, special=False) for token in defined])


def _config(metadata: Mapping[str, Any], tokens: list[str], name: str) -> dict[str, Any]:
    """tokenizer_config.json for such a tokenizer; the class makes transformers take tokenizer.json as it is."""
    config: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
    for role, key in (("bos", "bos"), ("eos", "eos"), ("unk", "unknown"), ("pad", "padding")):
        id = metadata.get(f"tokenizer.ggml.{key}_token_id")
        if id is None:
            continue
        if not 0 <= id < len(tokens):
            raise CheckpointError(f"{role} token id {id} is outside the vocabulary of {len(tokens):,}.", where=name)
        config[f"{role}_token"] = tokens[id]
    context = metadata.get(f"{metadata.get('general.architecture')}.context_length")
    if context is not None:
        config["model_max_length"] = context
    return config


def _add_borders(backend: Backend, metadata: Mapping[str, Any], tokens: list[str], kind: str) -> None:
    """Put the first and last token around every text where the model's format has them."""
    by_default = kind == "llama" or metadata.get("tokenizer.ggml.pre") in _LLAMA3_NAMES  # where older files are silent
    wanted = {
        "bos": metadata.get("tokenizer.ggml.add_bos_token", by_default),
        "eos": metadata.get("tokenizer.ggml.add_eos_token", False),
    }
    ids = {role: metadata.get(f"tokenizer.ggml.{role}_token_id") for role in wanted}
    first, last = ((ids[role] if wanted[role] else None) for role in ("bos", "eos"))
    if first is None and last is None:
        return
    single = [*(tokens[id] for id in [first] if id is not None), "$A", *(tokens[id] for id in [last] if id is not None)]
    pair = [*single, *(piece.replace("$A", "$B") + ":1" for piece in single)]
    around = [(tokens[id], id) for id in (first, last) if id is not None]
    backend.post_processor = processors.TemplateProcessing(single=single, pair=pair, special_tokens=around)
