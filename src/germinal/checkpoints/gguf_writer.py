"""GGUF files, written: the metadata that config, tokenizer and settings make, then one tensor after another.

A file is written only if its metadata, read again, give the config that they were made from, so that what a program
would compute otherwise is refused by name and never left unsaid.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf import GGUFWriter
from gguf.constants import GGMLQuantizationType, GGUFValueType
from torch import Tensor

from germinal import storage
from germinal.checkpoints import gguf_settings
from germinal.checkpoints.cards import ModelCard
from germinal.checkpoints.gguf_tokenizer import KEY
from germinal.checkpoints.gguf_vocabulary import tokenizer_metadata
from germinal.checkpoints.head_config import HeadConfig
from germinal.errors import SettingError, UnsupportedError, nearest
from germinal.models import families
from germinal.models.config import TransformerConfig
from germinal.models.families import Family
from germinal.models.families.gguf_format import GgufFormat
from germinal.models.heads import VOCABULARY_HEADS
from germinal.models.weight_rules import WeightRules
from germinal.text.tokenizer import Tokenizer

_PACKINGS = {
    "float32": (torch.float32, GGMLQuantizationType.F32, 0),
    "bfloat16": (torch.bfloat16, GGMLQuantizationType.BF16, 32),
    "float16": (torch.float16, GGMLQuantizationType.F16, 1),
}
"""Name -> dtype, packing, and the number of `general.file_type`."""
PRECISIONS = tuple(_PACKINGS)
_NUMBERS = {bool: GGUFValueType.BOOL, int: GGUFValueType.UINT32, float: GGUFValueType.FLOAT32}
_WITHOUT_HEAD = "The model can be written without it: --without-head."
_OF_HEADS = ("head", "pooler_activation")
_POOLED = ("pooler", "sequence-classification")


def write_gguf(
    path: Path,
    state_dict: Mapping[str, Tensor],
    *,
    config: TransformerConfig,
    family: Family,
    tokenizer: Tokenizer,
    generation_config: Mapping[str, Any],
    card: ModelCard,
    head_config: HeadConfig | None = None,
    precision: str | None = None,
    without_head: bool = False,
) -> None:
    """Write a file that llama.cpp reads; it appears whole or not at all.

    Args:
        state_dict: Weights under our names.
        precision: How the matrices are stored, a name in `PRECISIONS`; None is as they are. Vectors are float32.
        without_head: Leave out the head of an encoder, whose hidden states are wanted alone.

    Raises:
        UnsupportedError: the model, its head or its tokenizer has no form in GGUF.
        SettingError: an unknown precision.
        StorageError: the disk is full or the file cannot be written.
    """
    precision = precision or str(next(iter(state_dict.values())).dtype).removeprefix("torch.")
    if precision not in _PACKINGS:
        raise SettingError(f"'{precision}' is unknown.", where="precision", hint=nearest(precision, list(PRECISIONS)))
    if family.gguf is None:
        known = [each.name for each in families.FAMILIES.values() if each.gguf is not None]
        raise UnsupportedError(f"family '{family.name}' has no form in GGUF.", hint=f"These have: {', '.join(known)}.")
    form, tied = family.gguf, config.tie_embeddings
    if without_head:
        config, state_dict = _without_head(config, state_dict)
    config = form.written_as(config)
    if tied and not config.tie_embeddings:
        state_dict = {**state_dict, "lm_head.weight": state_dict["embed_tokens.weight"]}
    rules = form.rules(config)
    _check_places(rules, config, state_dict)
    extra = form.extra_tensors(config)
    published = rules.convert_to_theirs({name: tensor.to("meta") for name, tensor in state_dict.items()})
    shapes = {name: tensor.shape for name, tensor in (*extra.items(), *published)}
    metadata = form.metadata(config)
    hollow = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    _check_read_back(form, config, metadata, hollow | extra)
    metadata |= _more_metadata(form, config, tokenizer, generation_config)
    metadata |= gguf_settings.readout_metadata(head_config or HeadConfig(), config, form.architecture)
    metadata |= gguf_settings.card_metadata(card)
    if config.stacks == "encoder":  # no file without segments is read, whether or not they have an embedding
        metadata[KEY("token_type_count")] = max(1, config.num_token_types)
    metadata |= {"general.file_type": _PACKINGS[precision][2]}
    packings = {name: (shape, _packing(form, name, shape, precision)) for name, shape in shapes.items()}
    tensors = (tensor for _, tensor in chain(extra.items(), rules.convert_to_theirs(state_dict)))
    with storage.atomic_path(path) as temporary:
        _write(temporary, form.architecture, metadata, packings, tensors)


def _more_metadata(
    form: GgufFormat, config: TransformerConfig, tokenizer: Tokenizer, generation_config: Mapping[str, Any]
) -> dict[str, Any]:
    """Tokenizer and how answers are drawn, of a model that gives any."""
    if config.head != "lm":
        return tokenizer_metadata(tokenizer, config.vocab_size, ends_answers=False)
    drawn = gguf_settings.generation_metadata(generation_config, form.architecture)
    return drawn | tokenizer_metadata(tokenizer, config.vocab_size, gguf_settings.end_ids(generation_config))


def _without_head(
    config: TransformerConfig, state_dict: Mapping[str, Tensor]
) -> tuple[TransformerConfig, Mapping[str, Tensor]]:
    if config.stacks != "encoder":
        raise SettingError("is for encoders: nothing of this model is left without its head.", where="without_head")
    kept = {name: tensor for name, tensor in state_dict.items() if not _of_a_head(name)}
    return replace(config, head=None, num_labels=0), kept


def _of_a_head(name: str) -> bool:
    return name.startswith(("head.", "lm_head.")) or name == "logit_bias"


def _check_places(rules: WeightRules, config: TransformerConfig, state_dict: Mapping[str, Tensor]) -> None:
    homeless = [name for name in state_dict if rules.theirs(name) is None]
    if not homeless:
        return
    headed = any(map(_of_a_head, homeless))
    what = f"the head '{config.head}'" if headed else ", ".join(homeless[:8])
    raise UnsupportedError(
        f"GGUF has no place for {what}.",
        where="config.head" if headed else "config",
        hint=_WITHOUT_HEAD if headed and config.stacks == "encoder" else None,
    )


def _check_read_back(
    form: GgufFormat, config: TransformerConfig, metadata: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> None:
    """Refuse a config of which a file would say something else."""
    try:
        again = families.for_gguf(form.architecture).config_from_gguf(metadata, tensors)
    except SettingError as error:
        raise UnsupportedError(f"GGUF cannot say this config: {error.what}", where=error.where) from error
    said, meant = _telling(again), _telling(config)
    for name, value in meant.items():
        other = said.get(name)
        near = isinstance(value, float) and isinstance(other, float) and math.isclose(value, other, rel_tol=1e-6)
        if value != other and not near:
            raise UnsupportedError(
                f"a GGUF file of the architecture '{form.architecture}' stands for {other!r}, not {value!r}.",
                where=f"config.{name}",
                hint=_WITHOUT_HEAD if name in _OF_HEADS and config.stacks == "encoder" else None,
            )


def _telling(config: TransformerConfig) -> dict[str, Any]:
    """The values of a config that make a difference to what its network computes, each said in one way."""
    values = asdict(config)
    windowed = [config.is_windowed(layer) for layer in range(config.num_layers)]
    values["window"], values["windowed_layers"] = config.window if any(windowed) else None, windowed
    values["attention_scale"] = config.head_dim**-0.5 if config.attention_scale is None else config.attention_scale
    values["num_encoder_layers"] = config.encoder_layers if config.stacks == "encoder-decoder" else None
    base = config.rope_theta if config.windowed_rope_theta is None else config.windowed_rope_theta
    del values["windowed_rope_theta"]  # told last: that there is a window says more
    values["windowed_rope_theta"] = base if any(windowed) else None
    unused = {
        "rotary": ("rope_theta", "rope_scaling", "windowed_rope_theta"),
        "relative": ("num_buckets", "max_distance"),
        "learned": ("position_offset",),
    }
    idle = [name for positions, names in unused.items() if positions != config.positions for name in names]
    idle += [] if config.head in VOCABULARY_HEADS else ["tie_embeddings", "logit_bias", "logit_scale"]
    idle += [] if config.head in _POOLED else ["pooler_activation"]
    return {name: value for name, value in values.items() if name not in idle}


def _packing(form: GgufFormat, name: str, shape: torch.Size, precision: str) -> str:
    """The precision of one tensor: of vectors, and of what is added to them, float32."""
    return "float32" if len(shape) < 2 or name in form.float32 else precision


def _write(
    path: Path,
    architecture: str,
    metadata: Mapping[str, Any],
    packings: Mapping[str, tuple[torch.Size, str]],
    tensors: Iterator[Tensor],
) -> None:
    """One tensor at a time, so that no more than that is held twice."""
    writer = GGUFWriter(path, architecture)
    try:
        for key, value in metadata.items():
            _add(writer, key, value)
        for name, (shape, precision) in packings.items():
            dtype, kind, _ = _PACKINGS[precision]
            writer.add_tensor_info(name, shape, np.dtype(np.float32), shape.numel() * dtype.itemsize, raw_dtype=kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for (name, (_, precision)), tensor in zip(packings.items(), tensors, strict=True):
            writer.write_tensor_data(_packed(tensor, precision, name))
    finally:
        writer.close()


def _add(writer: GGUFWriter, key: str, value: Any) -> None:
    if isinstance(value, str):
        writer.add_string(key, value)
    elif isinstance(value, list | bytes):
        writer.add_array(key, value)
    else:
        writer.add_key_value(key, value, _NUMBERS[type(value)])


def _packed(tensor: Tensor, precision: str, name: str) -> np.ndarray[Any, Any]:
    """The bytes of a tensor as they are stored."""
    dtype = _PACKINGS[precision][0]
    packed = tensor.detach().cpu().to(dtype).contiguous()
    if dtype == torch.float16 and not bool(packed.isfinite().all()):
        raise UnsupportedError(
            "holds values that float16 has no room for.", where=name, hint="Write it in bfloat16 or float32."
        )
    return packed.reshape(-1).view(torch.uint8).numpy()
