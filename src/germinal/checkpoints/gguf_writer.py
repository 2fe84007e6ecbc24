"""Writes GGUF files: the metadata of config, tokenizer and settings, then one tensor after another.

A file is written only if its metadata, read back, give the config that they were made from. A setting that the format
cannot express is refused by name, never left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
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
from germinal.checkpoints.checkpoint import Checkpoint
from germinal.checkpoints.config_difference import refuse_difference
from germinal.checkpoints.gguf_tokenizer import KEY
from germinal.checkpoints.gguf_vocabulary import tokenizer_metadata
from germinal.errors import SettingError, UnsupportedError, nearest
from germinal.models import families
from germinal.models.config import TransformerConfig
from germinal.models.families import Family
from germinal.models.families.gguf_format import GgufFormat
from germinal.models.weight_rules import WeightRules

_PACKINGS = {
    "float32": (torch.float32, GGMLQuantizationType.F32, 0),
    "bfloat16": (torch.bfloat16, GGMLQuantizationType.BF16, 32),
    "float16": (torch.float16, GGMLQuantizationType.F16, 1),
}
"""Name -> dtype, tensor type, and number of `general.file_type`."""
PRECISIONS = tuple(_PACKINGS)
_NUMBERS = {bool: GGUFValueType.BOOL, int: GGUFValueType.UINT32, float: GGUFValueType.FLOAT32}
_WITHOUT_HEAD = "Write the model without its head: --without-head."


def write_gguf(path: Path, checkpoint: Checkpoint, *, precision: str | None = None, without_head: bool = False) -> None:
    """Write a file that llama.cpp reads, atomically.

    Args:
        precision: The precision of matrices, a name in `PRECISIONS`; None is the checkpoint's. Vectors are float32.
        without_head: Leave out the head of an encoder, to compute hidden states only.

    Raises:
        UnsupportedError: GGUF cannot express the model, its head or its tokenizer.
        SettingError: the precision is unknown, or the model is not an encoder and cannot be written without its head.
        StorageError: the disk is full or the file cannot be written.
    """
    precision = precision or checkpoint.precision
    if precision not in _PACKINGS:
        raise SettingError(f"'{precision}' is unknown.", where="precision", hint=nearest(precision, list(PRECISIONS)))
    form = _form(checkpoint.family)
    checkpoint = _as_written(_without_head(checkpoint) if without_head else checkpoint, form)
    config, state_dict = checkpoint.config, checkpoint.state_dict
    rules = form.rules(config)
    _check_names(rules, config, state_dict)
    extra = form.extra_tensors(config)
    published = rules.convert_to_theirs({name: tensor.to("meta") for name, tensor in state_dict.items()})
    shapes = {name: tensor.shape for name, tensor in (*extra.items(), *published)}
    meta_tensors = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    metadata = form.metadata(config)
    _check_read_back(form, config, metadata, meta_tensors | extra)
    metadata |= _more_metadata(checkpoint, form)
    metadata |= {"general.file_type": _PACKINGS[precision][2]}
    packings = {name: (shape, _packing(form, name, shape, precision)) for name, shape in shapes.items()}
    tensors = (tensor for _, tensor in chain(extra.items(), rules.convert_to_theirs(state_dict)))
    with storage.atomic_path(path) as temporary:
        _write(temporary, form.architecture, metadata, packings, tensors)


def _form(family: Family) -> GgufFormat:
    if family.gguf is None:
        known = [each.name for each in families.FAMILIES.values() if each.gguf is not None]
        raise UnsupportedError(f"family '{family.name}' has no form in GGUF.", hint=f"These have: {', '.join(known)}.")
    return family.gguf


def _without_head(checkpoint: Checkpoint) -> Checkpoint:
    if checkpoint.config.stacks != "encoder":
        raise SettingError("is for encoders: other models are of no use without their head.", where="without_head")
    kept = {name: tensor for name, tensor in checkpoint.state_dict.items() if not _of_a_head(name)}
    return replace(checkpoint, config=replace(checkpoint.config, head=None, num_labels=0), state_dict=kept)


def _as_written(checkpoint: Checkpoint, form: GgufFormat) -> Checkpoint:
    """The same model as the format can express it: a tied output matrix may have to be written in full."""
    config, state_dict = form.written_as(checkpoint.config), checkpoint.state_dict
    if checkpoint.config.tie_embeddings and not config.tie_embeddings:
        state_dict = {**state_dict, "lm_head.weight": state_dict["embed_tokens.weight"]}
    return replace(checkpoint, config=config, state_dict=state_dict)


def _more_metadata(checkpoint: Checkpoint, form: GgufFormat) -> dict[str, Any]:
    """The metadata of tokenizer, generation settings, head config and card."""
    config, drawn = checkpoint.config, checkpoint.generation_config
    writes = config.head == "lm"
    said = gguf_settings.generation_metadata(drawn, form.architecture) if writes else {}
    ends = gguf_settings.written_end_ids(drawn) if writes else ()
    said |= tokenizer_metadata(checkpoint.tokenizer, config.vocab_size, ends, ends_answers=writes)
    said |= gguf_settings.head_metadata(checkpoint.head_config, config, form.architecture)
    said |= gguf_settings.card_metadata(checkpoint.card)
    if config.stacks == "encoder":  # llama.cpp requires it, also of a model without segment embeddings
        said[KEY("token_type_count")] = max(1, config.num_token_types)
    return said


def _of_a_head(name: str) -> bool:
    return name.startswith(("head.", "lm_head.")) or name == "logit_bias"


def _check_names(rules: WeightRules, config: TransformerConfig, state_dict: Mapping[str, Tensor]) -> None:
    unnamed = [name for name in state_dict if rules.theirs(name) is None]
    if not unnamed:
        return
    headed = any(map(_of_a_head, unnamed))
    what = f"the head '{config.head}'" if headed else ", ".join(unnamed[:8])
    raise UnsupportedError(
        f"GGUF has no names for the tensors of {what}.",
        where="config.head" if headed else "config",
        hint=_WITHOUT_HEAD if headed and config.stacks == "encoder" else None,
    )


def _check_read_back(
    form: GgufFormat, config: TransformerConfig, metadata: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> None:
    """Refuse a config that would be read back as another."""
    try:
        again = families.for_gguf(form.architecture).config_from_gguf(metadata, tensors)
    except SettingError as error:
        raise UnsupportedError(f"GGUF cannot express this config: {error.what}", where=error.where) from error
    refuse_difference(
        again,
        config,
        form=f"a GGUF file of the architecture '{form.architecture}'",
        hint_of_heads=_WITHOUT_HEAD if config.stacks == "encoder" else None,
    )


def _packing(form: GgufFormat, name: str, shape: torch.Size, precision: str) -> str:
    """The precision of one tensor: float32 for vectors and for tables that programs expect so."""
    return "float32" if len(shape) < 2 or name in form.float32 else precision


def _write(
    path: Path,
    architecture: str,
    metadata: Mapping[str, Any],
    packings: Mapping[str, tuple[torch.Size, str]],
    tensors: Iterator[Tensor],
) -> None:
    """Write one tensor at a time, so that only one is in memory twice."""
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
    """The bytes of a tensor in the file."""
    dtype = _PACKINGS[precision][0]
    packed = tensor.detach().cpu().to(dtype).contiguous()
    if dtype == torch.float16 and not bool(packed.isfinite().all()):
        raise UnsupportedError(
            "holds values outside the range of float16.", where=name, hint="Use bfloat16 or float32."
        )
    return packed.reshape(-1).view(torch.uint8).numpy()
