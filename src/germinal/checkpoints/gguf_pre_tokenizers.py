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
_OTHER_NAMES = {"llama3": "llama-bpe", "llama-v3": "llama-bpe"}


@dataclass(frozen=True, slots=True)
class PreTokenization:
    """What happens to a text before the merges.

    Attributes:
        pre_tokenizer: Splits the text and maps its bytes to characters.
        normalizer: Applied to the text first, or None.
        ignore_merges: Whether a piece that is in the vocabulary becomes one token without merging.
        adds_bos: Whether a text starts with the bos token if the file does not say.
    """

    pre_tokenizer: pre_tokenizers.PreTokenizer
    normalizer: normalizers.Normalizer | None = None
    ignore_merges: bool = False
    adds_bos: bool = False


@cache
def supported() -> dict[str, PreTokenization]:
    """What is supported, by name."""
    by_regex = pre_tokenizers.ByteLevel(add_prefix_space=False)

    def split(pattern: str) -> pre_tokenizers.PreTokenizer:
        pieces = pre_tokenizers.Split(Regex(pattern), behavior="isolated")
        return pre_tokenizers.Sequence([pieces, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])

    return {
        "gpt-2": PreTokenization(by_regex),
        "smollm": PreTokenization(pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), by_regex])),
        "llama-bpe": PreTokenization(split(_LLAMA3), ignore_merges=True, adds_bos=True),
        "qwen2": PreTokenization(split(_QWEN2), normalizers.NFC()),
        "bloom": PreTokenization(split(_BLOOM)),
    }


def by_name(name: str | None, where: str) -> PreTokenization:
    """What a name stands for.

    Raises:
        UnsupportedError: it is not supported.
    """
    known = supported()
    name = _OTHER_NAMES.get(str(name), name)
    if name not in known:
        raise UnsupportedError(
            f"the pre-tokenizer {name!r} is not supported.",
            where=where,
            hint=nearest(str(name), [*known, *_OTHER_NAMES]),
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
