"""The metadata of a GGUF file beside config and tokenizer: generation settings, head config, and card.

One module for both reading and writing. Keys that begin with "germinal." are ours; other programs ignore them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from germinal.checkpoints.cards import ModelCard
from germinal.checkpoints.gguf_tokenizer import KEY, end_ids
from germinal.checkpoints.head_config import HeadConfig
from germinal.checkpoints.sentence_layers import UnitLength
from germinal.checkpoints.sentence_vectors import Pooling
from germinal.errors import CheckpointError, UnsupportedError
from germinal.models.config import TransformerConfig

_SAMPLING = {
    "temperature": "general.sampling.temp",
    "top_k": "general.sampling.top_k",
    "top_p": "general.sampling.top_p",
    "min_p": "general.sampling.min_p",
    "repetition_penalty": "general.sampling.penalty_repeat",
}
_POOLING = {"mean": 1, "first": 2, "last": 3}
_CLASSES = 4
"""The `pooling_type` of a model with a classification head."""
_NORMALIZED, _MAX_TOKENS = "germinal.pooling.normalized", "germinal.pooling.max_tokens"
_PROMPTS = ("germinal.pooling.prompt_names", "germinal.pooling.prompt_texts")
_DEFAULT_PROMPT = "germinal.pooling.default_prompt"
_MULTI_LABEL, _REGRESSION = "germinal.classifier.multi_label", "germinal.classifier.regression"
_BASE_MODEL = "general.base_model.0.name"


def generation_config(metadata: Mapping[str, Any], vocab_size: int) -> dict[str, Any]:
    """The contents of generation_config.json: special token ids and sampling settings.

    Raises:
        CheckpointError: an id is no row of the embedding.
    """
    start = metadata.get(f"{metadata.get('general.architecture')}.decoder_start_token_id")
    found = {
        "bos_token_id": metadata.get(KEY("bos_token_id")),
        "pad_token_id": metadata.get(KEY("padding_token_id")),
        "decoder_start_token_id": start,
    }
    ends = end_ids(metadata)
    for name, id in [*found.items(), *(("eos_token_id", id) for id in ends)]:
        if id is not None and not (isinstance(id, int) and 0 <= id < vocab_size):
            raise CheckpointError(f"is {id!r}, which is no row of an embedding of {vocab_size:,}.", where=name)
    found["eos_token_id"] = ends if len(ends) > 1 else next(iter(ends), None)
    found["suppress_tokens"] = metadata.get(KEY("suppress_tokens")) or None
    sampling = {name: metadata[key] for name, key in _SAMPLING.items() if key in metadata}
    if sampling:
        found |= {"do_sample": True, **sampling}
    return {name: value for name, value in found.items() if value is not None}


def written_end_ids(generation: Mapping[str, Any]) -> list[int]:
    """The tokens that end an answer, from generation_config.json."""
    ends = generation.get("eos_token_id")
    return [] if ends is None else list(ends) if isinstance(ends, Iterable) else [int(ends)]


def generation_metadata(generation: Mapping[str, Any], architecture: str) -> dict[str, Any]:
    """The inverse of `generation_config`, without the tokens that end an answer, which are in the tokenizer's."""
    found: dict[str, Any] = {}
    if generation.get("do_sample"):
        drawn = {"temperature": 1.0, **generation}
        found = {key: drawn[name] for name, key in _SAMPLING.items() if drawn.get(name) is not None}
        found = {key: value if key.endswith("top_k") else float(value) for key, value in found.items()}
    ids = {
        f"{architecture}.decoder_start_token_id": "decoder_start_token_id",
        KEY("bos_token_id"): "bos_token_id",
        KEY("padding_token_id"): "pad_token_id",
    }
    return found | {key: generation[name] for key, name in ids.items() if isinstance(generation.get(name), int)}


def head_config(metadata: Mapping[str, Any], config: TransformerConfig) -> HeadConfig:
    """The pooling and the labels of a GGUF file.

    Raises:
        CheckpointError: the labels are not those of the head's outputs.
        UnsupportedError: a pooling that is not supported.
    """
    architecture = metadata.get("general.architecture")
    kind = metadata.get(f"{architecture}.pooling_type")
    mode = next((mode for mode, number in _POOLING.items() if number == kind), None)
    if mode is None and kind not in (None, -1, 0) and not (kind == _CLASSES and config.num_labels):
        raise UnsupportedError(f"is {kind!r}, which is not supported.", where=f"{architecture}.pooling_type")
    pooling = None
    if mode is not None:
        names, texts = (metadata.get(key) or [] for key in _PROMPTS)
        if len(names) != len(texts):
            raise CheckpointError(f"has {len(texts):,} texts for {len(names):,} names.", where=_PROMPTS[1])
        pooling = Pooling(
            modes=(mode,),
            layers=(UnitLength(),) if metadata.get(_NORMALIZED, False) else (),
            max_tokens=metadata.get(_MAX_TOKENS),
            prompts=dict(zip(names, texts, strict=True)),
            default_prompt=metadata.get(_DEFAULT_PROMPT),
        )
    labels = metadata.get(f"{architecture}.classifier.output_labels") or []
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise CheckpointError("must be a list of texts.", where=f"{architecture}.classifier.output_labels")
    if config.num_labels and labels and len(labels) != config.num_labels:
        what = f"names {len(labels):,} outputs, but the head has {config.num_labels:,}."
        raise CheckpointError(what, where=f"{architecture}.classifier.output_labels")
    return HeadConfig(
        labels=tuple(labels),
        multi_label=bool(metadata.get(_MULTI_LABEL, False)),
        regression=bool(metadata.get(_REGRESSION, False)),
        pooling=pooling,
    )


def head_metadata(head_config: HeadConfig, config: TransformerConfig, architecture: str) -> dict[str, Any]:
    """The inverse of `head_config`.

    Raises:
        UnsupportedError: GGUF cannot express the pooling.
    """
    if config.num_labels:
        labels = list(head_config.labels) or [f"LABEL_{number}" for number in range(config.num_labels)]
        said = {f"{architecture}.pooling_type": _CLASSES, f"{architecture}.classifier.output_labels": labels}
        kinds = {_MULTI_LABEL: head_config.multi_label, _REGRESSION: head_config.regression}
        return said | {key: True for key, holds in kinds.items() if holds}
    pooling = head_config.pooling
    if pooling is None:
        return {}
    if pooling.layers not in ((), (UnitLength(),)):
        raise UnsupportedError("vectors go through layers after the pooling, which GGUF cannot express.")
    if len(pooling.modes) != 1 or pooling.modes[0] not in _POOLING or not pooling.include_prompt:
        without = "" if pooling.include_prompt else " without the prompt"
        raise UnsupportedError(
            f"vectors are pooled by '{' + '.join(pooling.modes)}'{without}, which GGUF cannot express.",
            hint=f"It can express {', '.join(_POOLING)}.",
        )
    if pooling.truncate_dim is not None:
        raise UnsupportedError("vectors are cut to their first numbers (truncate_dim), which GGUF cannot express.")
    said = {f"{architecture}.pooling_type": _POOLING[pooling.modes[0]], _NORMALIZED: pooling.normalized}
    if pooling.prompts:
        said |= dict(zip(_PROMPTS, (list(pooling.prompts), list(pooling.prompts.values())), strict=True))
    more = {_MAX_TOKENS: pooling.max_tokens, _DEFAULT_PROMPT: pooling.default_prompt}
    return said | {key: value for key, value in more.items() if value is not None}


def base_model(metadata: Mapping[str, Any]) -> str | None:
    """The name of the base model."""
    return metadata.get(_BASE_MODEL)


def card_metadata(card: ModelCard) -> dict[str, Any]:
    """Name, licence and base model."""
    said: dict[str, Any] = {"general.type": "model", "general.name": card.name}
    if card.licence is not None:
        said["general.license"] = card.licence
    if card.base_model is not None:
        said |= {"general.base_model.count": 1, _BASE_MODEL: card.base_model}
    return said
