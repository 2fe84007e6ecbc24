"""The pre-tokenizers of byte-level BPE, by their names in llama.cpp.

A GGUF file names its pre-tokenizer (`tokenizer.ggml.pre`) without defining it. Those defined here are taken from the
tokenizer.json files published with the models that use them; others are refused by name, since a tokenizer that is
nearly right is wrong. (transformers 5.24 does not know `smollm`: reading a GGUF file, it splits white space before
digits differently from SmolLM2's tokenizer.json and from llama.cpp.)
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from typing import Any

from tokenizers import Regex, models, normalizers, pre_tokenizers
from tokenizers import Tokenizer as Backend

from germinal.errors import UnsupportedError, nearest

_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_QWEN2 = _LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
_BLOOM = r" ?[^(\s|[.,!?…。，、।۔،])]+"
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)"
_TEKKEN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_SEED_CODER = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
_DEEPSEEK_CODER = (r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-퟿]+", r"\p{N}")
_DEFAULT = (r"[\p{P}\$\+<=>\^~\|]+", _GPT2, r"\p{N}+", "[0-9][0-9][0-9]")
"""What llama.cpp does for files that name no pre-tokenizer, each pattern within the pieces of those before."""

_OTHER_NAMES = {
    other: name
    for name, others in {
        "gpt-2": "phi-2 jina-es jina-de jina-v2-es jina-v2-de gigachat a.x-4.0 mellum modern-bert mpt olmo jais"
        " trillion granite-docling exaone4",
        "roberta-bpe": "jina-v1-en jina-v2-code",
        "smollm": "starcoder refact command-r codeshell exaone minerva-7b mellum2",
        "llama-bpe": "llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano",
        "dbrx": "smaug-bpe chatglm-bpe glm4",
        "qwen2": "deepseek-r1-qwen kormo f2llmv2 megrez",
        "bloom": "poro-chat gpt3-finnish",
    }.items()
    for other in others.split()
}
"""Names that llama.cpp (src/llama-vocab.cpp) treats alike -> the one that is defined here."""


@dataclass(frozen=True, slots=True)
class PreTokenization:
    """What happens to a text before the merges.

    Attributes:
        pre_tokenizer: Splits the text and maps its bytes to characters.
        normalizer: Applied to the text first, or None.
        ignore_merges: Whether a piece that is in the vocabulary becomes one token without merging.
        adds_bos: Whether a text starts with the bos token if the file does not say.
        adds_sep: Whether a separator goes between two texts if the file does not say.
    """

    pre_tokenizer: pre_tokenizers.PreTokenizer
    normalizer: normalizers.Normalizer | None = None
    ignore_merges: bool = False
    adds_bos: bool = False
    adds_sep: bool = False


@cache
def supported() -> dict[str, PreTokenization]:
    """What is supported, by name."""
    by_regex = pre_tokenizers.ByteLevel(add_prefix_space=False)

    def split(*patterns: str) -> pre_tokenizers.PreTokenizer:
        pieces = [pre_tokenizers.Split(Regex(pattern), behavior="isolated") for pattern in patterns]
        return pre_tokenizers.Sequence([*pieces, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])

    return {
        "gpt-2": PreTokenization(by_regex),
        "roberta-bpe": PreTokenization(by_regex, adds_sep=True),
        "smollm": PreTokenization(pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), by_regex])),
        "llama-bpe": PreTokenization(split(_LLAMA3), ignore_merges=True, adds_bos=True),
        "dbrx": PreTokenization(split(_LLAMA3)),
        "qwen2": PreTokenization(split(_QWEN2), normalizers.NFC()),
        "bloom": PreTokenization(split(_BLOOM)),
        "viking": PreTokenization(split(_BLOOM, r"\p{N}")),
        "tekken": PreTokenization(split(_TEKKEN), ignore_merges=True, adds_bos=True),
        "seed-coder": PreTokenization(split(_SEED_CODER)),
        "deepseek-coder": PreTokenization(split(*_DEEPSEEK_CODER)),
        "default": PreTokenization(split(*_DEFAULT)),
    }


def by_name(name: str | None, where: str) -> PreTokenization:
    """What a name stands for; None, in files older than these names, for "default".

    Raises:
        UnsupportedError: it is not supported.
    """
    known = supported()
    name = "default" if name is None else _OTHER_NAMES.get(name, name)
    if name not in known:
        raise UnsupportedError(
            f"the pre-tokenizer {name!r} is not supported.",
            where=where,
            hint=nearest(name, [*known, *_OTHER_NAMES]),
        )
    return known[name]


def name_of(backend: Backend, where: str) -> str:
    """The name of a tokenizer's pre-tokenizer.

    Raises:
        UnsupportedError: it has no name.
    """
    wanted = _steps(backend)
    for name, known in supported().items():
        same = Backend(models.BPE(ignore_merges=known.ignore_merges))
        same.pre_tokenizer = known.pre_tokenizer
        if known.normalizer is not None:
            same.normalizer = known.normalizer
        if _steps(same) == wanted:
            return name
    raise UnsupportedError(
        "the tokenizer's pre-tokenizer has no name in GGUF.",
        where=where,
        hint=f"Known: {', '.join(supported())}.",
    )


def _steps(backend: Backend) -> list[Any]:
    """What a tokenizer does to a text before merging, without `trim_offsets`, which does not change its ids."""
    state = json.loads(backend.to_str())
    steps: list[Any] = [state["model"].get("ignore_merges", False)]
    for part, several in (("normalizer", "normalizers"), ("pre_tokenizer", "pretokenizers")):
        found = state[part] or {"type": "Sequence", several: []}
        steps += [(part, _without(step, "trim_offsets")) for step in found.get(several, [found])]
    return steps


def _without(step: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in step.items() if name != key}
