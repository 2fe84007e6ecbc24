"""What a model's weights are, by content: where they came from, and how the file stored them, does not count.

A GGUF file read to float32 and the folder converted from it have one fingerprint.
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
    """SHA-256 over weights, tokenizer and, where given, config.

    Args:
        state_dict: Weights under our names.
        path: The folder or file that they were read from, unchanged since: their digest is then worked out once and
            remembered for as long as the files stay as they are.
        config: What the network was built from; equal weights under another rotary base answer otherwise.
    """
    files = _weights_files(path) if path is not None else []
    kinds = [[name, str(tensor.dtype), list(tensor.shape)] for name, tensor in sorted(state_dict.items())]
    if files:
        weights = remembered("weights", files, [_VERSION, kinds], lambda: weights_digest(state_dict))
    else:
        weights = weights_digest(state_dict)
    return storage.digest([_VERSION, weights, tokenizer.fingerprint, _settings(config)])


def _settings(config: TransformerConfig | None) -> dict[str, str]:
    """What a config says beyond its defaults: an axis that is added later leaves the models without it as they were."""
    if config is None:
        return {}
    values = {field.name: (getattr(config, field.name), field.default) for field in fields(config)}
    return {name: repr(value) for name, (value, default) in values.items() if value != default}


def weights_digest(state_dict: Mapping[str, Tensor]) -> str:
    """SHA-256 over each tensor's name, dtype, shape and bytes, in the order of the names."""
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
