"""Reads GGUF files: config and tokenizer from the metadata, weights dequantised."""

from __future__ import annotations

from functools import partial
from math import prod
from pathlib import Path

import torch
from gguf.constants import GGMLQuantizationType
from torch import Tensor

from germinal.checkpoints.assembly import assemble, read_config
from germinal.checkpoints.cards import ModelCard
from germinal.checkpoints.catalogue import known_file
from germinal.checkpoints.checkpoint import Checkpoint
from germinal.checkpoints.dequantize import dequantize
from germinal.checkpoints.gguf_header import GgufHeader, StoredTensor, read_header
from germinal.checkpoints.gguf_metadata import check_metadata
from germinal.checkpoints.gguf_settings import base_model, generation_config, head_config
from germinal.checkpoints.gguf_tokenizer import KEY, tokenizer_from_gguf
from germinal.checkpoints.stored import Stored, main_precision, preferred_dtype
from germinal.errors import CheckpointError, UnsupportedError
from germinal.models import families

_PLAIN_NAMES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
_TABLE_VALUES = 4096
"""Tensors up to this size may be a part of the config (rotary divisors), so that their values are read for it."""


def read_gguf(path: Path, dtype: torch.dtype | None = None, name: str | None = None) -> Checkpoint:
    """Read a file; see `formats.read`."""
    header = read_header(path)
    metadata = header.metadata
    check_metadata(metadata, str(path))
    architecture = metadata.get("general.architecture")
    if architecture is None:
        raise CheckpointError("has no 'general.architecture', so it is not a model.", where=str(path))
    if (parts := metadata.get("split.count", 1)) != 1:
        raise UnsupportedError(
            f"is one of {parts} parts of a model.",
            where=str(path),
            hint="Merge them with llama.cpp's gguf-split --merge.",
        )
    family = families.for_gguf(architecture)
    assert family.gguf is not None
    config = read_config(partial(family.config_from_gguf, metadata, config_tensors(header)))
    types = metadata.get(KEY("token_type_count"))
    if config.num_token_types and types not in (None, config.num_token_types):
        what = f"is {types:,}, but there are embeddings of {config.num_token_types:,}."
        raise CheckpointError(what, where=f"{path}: {KEY('token_type_count')}")
    stored = stored_tensors(header)
    wanted = dtype or preferred_dtype(tensor for key, tensor in stored.items() if key not in family.gguf.float32)
    known = known_file(path)
    own_name = name or (known.name if known else metadata.get("general.name")) or path.stem
    return Checkpoint(
        path=path,
        config=config,
        family=family,
        state_dict=assemble(stored, family.gguf.rules(config), config, wanted, where=str(path)),
        tokenizer=tokenizer_from_gguf(metadata, own_name),
        generation_config=generation_config(metadata, config.vocab_size) if config.head == "lm" else {},
        card=ModelCard(
            name=own_name,
            licence=known.licence if known else metadata.get("general.license"),
            source=known.source if known else path.name,
            stored_precision=main_precision(stored.values()),
            base_model=known.base_model if known else base_model(metadata),
        ),
        head_config=head_config(metadata, config),
    )


def stored_tensors(header: GgufHeader) -> dict[str, Stored]:
    """The tensors of a file by name, not read yet."""
    return {
        tensor.name: Stored(
            tensor.shape, _PLAIN_NAMES.get(tensor.kind.name, tensor.kind.name), partial(_load, header, tensor)
        )
        for tensor in header.tensors.values()
    }


def _load(header: GgufHeader, tensor: StoredTensor, dtype: torch.dtype) -> Tensor:
    return dequantize(header.bytes_of(tensor), tensor.kind, tensor.shape, dtype)


def config_tensors(header: GgufHeader) -> dict[str, Tensor]:
    """The tensors that a family may read its config from: values of small float32 ones, shapes of the others."""
    return {
        name: _load(header, tensor, torch.float32)
        if tensor.kind is GGMLQuantizationType.F32 and prod(tensor.shape) <= _TABLE_VALUES
        else torch.empty(tensor.shape, device="meta")
        for name, tensor in header.tensors.items()
    }
