"""The keys of a GGUF file that are not its architecture's: what is read, of which type, and what has no effect.

Keys and types are those of ggml's docs/gguf.md, the gguf package and llama.cpp's vocabulary (src/llama-vocab.cpp). The
keys of an architecture are in `models.families.gguf_keys`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from germinal.errors import CheckpointError, UnsupportedError

TEXT, TEXTS = "a text", "a list of texts"
WHOLE, WHOLES = "a whole number", "a list of whole numbers"
NUMBER, NUMBERS = "a number", "a list of numbers"
FLAG = "true or false"

_SPECIAL = ("bos", "eos", "eot", "eom", "unknown", "seperator", "padding", "cls", "mask")
_OF_GAPS = ("fim_pre", "fim_suf", "fim_mid", "fim_pad", "fim_rep", "fim_sep")
READ: dict[str, str] = {
    "general.architecture": TEXT,
    "general.alignment": WHOLE,
    "general.name": TEXT,
    "general.license": TEXT,
    "general.base_model.0.name": TEXT,
    "general.sampling.temp": NUMBER,
    "general.sampling.top_k": WHOLE,
    "general.sampling.top_p": NUMBER,
    "general.sampling.min_p": NUMBER,
    "general.sampling.penalty_repeat": NUMBER,
    "split.count": WHOLE,
    "tokenizer.chat_template": TEXT,
    "tokenizer.chat_templates": TEXTS,
    "tokenizer.ggml.model": TEXT,
    "tokenizer.ggml.pre": TEXT,
    "tokenizer.ggml.tokens": TEXTS,
    "tokenizer.ggml.token_type": WHOLES,
    "tokenizer.ggml.token_type_count": WHOLE,
    "tokenizer.ggml.scores": NUMBERS,
    "tokenizer.ggml.merges": TEXTS,
    **{f"tokenizer.ggml.{name}_token_id": WHOLE for name in (*_SPECIAL, *_OF_GAPS)},
    "tokenizer.ggml.eos_token_ids": WHOLES,
    "tokenizer.ggml.suppress_tokens": WHOLES,
    "tokenizer.ggml.add_bos_token": FLAG,
    "tokenizer.ggml.add_eos_token": FLAG,
    "tokenizer.ggml.add_sep_token": FLAG,
    "tokenizer.ggml.add_space_prefix": FLAG,
    "tokenizer.ggml.remove_extra_whitespaces": FLAG,
    "tokenizer.ggml.precompiled_charsmap": WHOLES,
    "tokenizer.ggml.normalizer.lowercase": FLAG,
    "tokenizer.ggml.normalizer.strip_accents": FLAG,
    "germinal.pooling.normalized": FLAG,
    "germinal.pooling.max_tokens": WHOLE,
    "germinal.pooling.prompt_names": TEXTS,
    "germinal.pooling.prompt_texts": TEXTS,
    "germinal.pooling.default_prompt": TEXT,
    "germinal.classifier.multi_label": FLAG,
    "germinal.classifier.regression": FLAG,
}
"""Key -> what its value must be."""

NEUTRAL: dict[str, tuple[Any, ...]] = {
    "general.type": ("model",),
    "general.sampling.sequence": ("",),
    "general.sampling.xtc_probability": (0,),
    "general.sampling.penalty_last_n": (-1,),
    "general.sampling.mirostat": (0,),
}
"""Key -> the values that have no effect; others are refused."""

WITHOUT_EFFECT = re.compile(
    # About the model, not part of it. `license` and the first base model's name are also on its card.
    r"general\.(author|version|organization|finetune|basename|description|quantized_by|size_label|url|doi|uuid|repo_url"
    r"|tags|languages|license\.(name|link)|source\..*|base_model\..*|dataset\..*|file_type|quantization_version)"
    # Of xtc and mirostat, which are refused where they are on.
    r"|general\.sampling\.(xtc_threshold|mirostat_tau|mirostat_eta)"
    # Of files in several parts, which are refused.
    r"|split\.(no|tensors\.count)"
    # The tokenizer in other words: the tokenizers library's own, and RWKV's.
    r"|tokenizer\.(huggingface\.json|rwkv\.world)"
    # Templates by their names, which `tokenizer.chat_templates` lists.
    r"|tokenizer\.chat_template\..*"
    # Older names of the tokens around a gap, which no prompt here has.
    r"|tokenizer\.ggml\.(prefix|suffix|middle)_token_id"
)


def check_metadata(metadata: Mapping[str, Any], where: str) -> None:
    """Check the keys of a file that are not its architecture's.

    Raises:
        CheckpointError: a value has another type than its key has.
        UnsupportedError: a key of the tokenizer, or a setting, that is not supported.
    """
    for key, value in metadata.items():
        if key in READ:
            if not _is(value, READ[key]):
                raise CheckpointError(f"'{key}' must be {READ[key]}, not {_shown(value)}.", where=where)
        elif key in NEUTRAL:
            if value not in NEUTRAL[key]:
                raise UnsupportedError(f"'{key}' is {_shown(value)}, which is not supported.", where=where)
        elif key.startswith(("tokenizer.", "general.sampling.", "adapter.")) and not WITHOUT_EFFECT.fullmatch(key):
            raise UnsupportedError(
                f"'{key}' is unknown, and may change what the model does.",
                where=where,
                hint="If it has no effect, remove it with the gguf package's gguf_new_metadata.py --remove-metadata.",
            )


def _is(value: Any, kind: str) -> bool:
    if kind in (TEXTS, WHOLES, NUMBERS):
        single = {TEXTS: TEXT, WHOLES: WHOLE, NUMBERS: NUMBER}[kind]
        return isinstance(value, list) and all(_is(each, single) for each in value)
    if kind == TEXT:
        return isinstance(value, str)
    if kind == FLAG:
        return isinstance(value, bool)
    return isinstance(value, int if kind == WHOLE else int | float) and not isinstance(value, bool)


def _shown(value: Any) -> str:
    text = repr(value[:8] if isinstance(value, list) else value)
    return text if len(text) <= 80 else f"{text[:80]}..."
