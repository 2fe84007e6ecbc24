"""The ways of splitting a text before byte-level merges, by the names that llama.cpp gives them.

A GGUF file names its way (`tokenizer.ggml.pre`) without spelling it out. The ways known here are those of the
tokenizer.json published with the models that use them, and any other is refused by name: a tokenizer that is nearly
right is wrong. (transformers 5.24 does not know `smollm`: reading a GGUF file itself, it splits white space before
digits otherwise than SmolLM2's own tokenizer.json and llama.cpp do.)
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
class Splitting:
    """One way.

    Attributes:
        pre_tokenizer: What cuts the text, and spells its bytes.
        normalizer: What is done to the text before.
        ignore_merges: A piece that is in the vocabulary is taken as it is, whether or not merges reach it.
        adds_start: Whether a text begins with the start token where the file does not say.
    """

    pre_tokenizer: pre_tokenizers.PreTokenizer
    normalizer: normalizers.Normalizer | None = None
    ignore_merges: bool = False
    adds_start: bool = False


@cache
def splittings() -> dict[str, Splitting]:
    """Every way that is known, by its name."""
    by_regex = pre_tokenizers.ByteLevel(add_prefix_space=False)

    def split(pattern: str) -> pre_tokenizers.PreTokenizer:
        pieces = pre_tokenizers.Split(Regex(pattern), behavior="isolated")
        return pre_tokenizers.Sequence([pieces, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])

    return {
        "gpt-2": Splitting(by_regex),
        "smollm": Splitting(pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), by_regex])),
        "llama-bpe": Splitting(split(_LLAMA3), ignore_merges=True, adds_start=True),
        "qwen2": Splitting(split(_QWEN2), normalizers.NFC()),
        "bloom": Splitting(split(_BLOOM)),
    }


def splitting(name: str | None, where: str) -> Splitting:
    """The way of a name.

    Raises:
        UnsupportedError: it is not known.
    """
    known = splittings()
    name = _OTHER_NAMES.get(str(name), name)
    if name not in known:
        raise UnsupportedError(
            f"the tokenizer splits text by {name!r}, which is not known.",
            where=where,
            hint=nearest(str(name), [*known, *_OTHER_NAMES]),
        )
    return known[name]


def name_of(backend: Backend, where: str) -> str:
    """The name of the way that a tokenizer splits by.

    Raises:
        UnsupportedError: it has none of those that are known.
    """
    wanted = _steps(backend)
    for name, known in splittings().items():
        same = Backend(models.BPE(ignore_merges=known.ignore_merges))
        same.pre_tokenizer = known.pre_tokenizer
        if known.normalizer is not None:
            same.normalizer = known.normalizer
        if _steps(same) == wanted:
            return name
    raise UnsupportedError(
        "the tokenizer splits text in a way that has no name in GGUF.",
        where=where,
        hint=f"Known: {', '.join(splittings())}.",
    )


def _steps(backend: Backend) -> list[Any]:
    """What a tokenizer does to a text before merging; how it counts characters makes no difference to its ids."""
    state = json.loads(backend.to_str())
    steps: list[Any] = [state["model"].get("ignore_merges", False)]
    for part, several in (("normalizer", "normalizers"), ("pre_tokenizer", "pretokenizers")):
        found = state[part] or {"type": "Sequence", several: []}
        steps += [(part, _without(step, "trim_offsets")) for step in found.get(several, [found])]
    return steps


def _without(step: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in step.items() if name != key}
