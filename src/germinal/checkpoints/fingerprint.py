"""The identity of a model by content: where its weights came from, and how a file stores them, does not count.

A GGUF file read as float32 and the folder converted from it have the same fingerprint.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

import torch
from torch import Tensor

from germinal import storage
from germinal.checkpoints.cache import remembered
from germinal.models.config import TransformerConfig
from germinal.text.tokenizer import Tokenizer

_VERSION = 1
_WEIGHTS = (".safetensors", ".bin", ".gguf")


def fingerprint(
    state_dict: Mapping[str, Tensor],
    tokenizer: Tokenizer,
    path: Path | None = None,
    config: TransformerConfig | None = None,
) -> str:
    """SHA-256 of weights, tokenizer and, if given, config.

    Args:
        state_dict: Weights under our names.
        tokenizer: The tokenizer.
        path: The folder or file that the weights were read from, if they have not been changed since: their digest is
            then kept in the cache until the files change.
        config: The network's config: equal weights with another rotary base are another model.
    """
    files = _weights_files(path) if path is not None else []
    kinds = [[name, str(tensor.dtype), list(tensor.shape)] for name, tensor in sorted(state_dict.items())]
    if files:
        weights = remembered("weights", files, [_VERSION, kinds], lambda: weights_digest(state_dict))
    else:
        weights = weights_digest(state_dict)
    return storage.digest([_VERSION, weights, tokenizer.fingerprint, _settings(config, tokenizer)])


def _settings(config: TransformerConfig | None, tokenizer: Tokenizer) -> dict[str, str]:
    """A config's values that are not defaults, so that a new field does not change the fingerprint of old models.

    Nor does it change that of models which are told token types, as they always were.
    """
    if config is None:
        return {}
    untold = {"token_types": "untold"} if config.num_token_types > 1 and not tokenizer.has_token_types else {}
    return untold | _changed(config)


def _changed(config: TransformerConfig) -> dict[str, str]:
    values = {field.name: (getattr(config, field.name), field.default) for field in fields(config)}
    return {name: repr(value) for name, (value, default) in values.items() if value != default}


def weights_digest(state_dict: Mapping[str, Tensor]) -> str:
    """SHA-256 of each tensor's name, dtype, shape and bytes, in the order of the names."""
    digest = hashlib.sha256()
    for name, tensor in sorted(state_dict.items()):
        digest.update(storage.canonical([name, str(tensor.dtype), list(tensor.shape)]).encode())
        flat = tensor.detach().cpu().contiguous().view(-1)
        digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _weights_files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    return sorted(file for file in path.iterdir() if file.suffix in _WEIGHTS) if path.is_dir() else []
