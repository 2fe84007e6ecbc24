"""The weights files of a Hugging Face folder: memory-mapped safetensors, single or sharded, or old pickles.

A tensor read from safetensors is a view of the mapped file: its pages are read on first use, without a copy, and shared
by all processes.
"""

from __future__ import annotations

import json
import os
import pickle
import re
import warnings
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from germinal import storage
from germinal.checkpoints.stored import Stored, check_dtype
from germinal.errors import CheckpointError, UnsafeFileError, UnsupportedError, listed

MAX_SHARD_BYTES = 5_000_000_000

_DTYPES = {
    **{"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "BOOL": "bool"},
    **{f"{kind}{bits}": f"{name}{bits}" for kind, name in (("I", "int"), ("U", "uint")) for bits in (8, 16, 32, 64)},
    "C64": "complex64",
}
"""torch's names of the format's dtypes; those of smaller floats stay as in the format."""
_SINGLE, _INDEX = "model.safetensors", "model.safetensors.index.json"
_PICKLE, _PICKLE_INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"
_LAYOUTS = ((_SINGLE, _INDEX), (_PICKLE, _PICKLE_INDEX))


def weights_files(folder: Path) -> list[Path]:
    """The weights files of a folder: safetensors if there are any, otherwise pickles.

    Raises:
        CheckpointError: there are none, or a shard that the index names is missing.
        UnsafeFileError: the index names a file outside the folder.
    """
    for single, index in _LAYOUTS:
        if (folder / index).is_file():
            return _shards(folder, folder / index)
        if (folder / single).is_file():
            return [folder / single]
    raise CheckpointError(f"has no weights: neither {_SINGLE} nor {_INDEX} nor {_PICKLE}.", where=str(folder))


def read_weights(folder: Path) -> dict[str, Stored]:
    """All tensors of a folder's weights files, by published name.

    Raises:
        CheckpointError: a file is truncated, malformed or missing, or a tensor is in two files.
        UnsafeFileError: a pickle holds more than tensors, or the index names a file outside the folder.
    """
    tensors: dict[str, Stored] = {}
    for file in weights_files(folder):
        for name, tensor in read_file(file).items():
            if name in tensors:
                raise CheckpointError(f"tensor '{name}' is in another shard too.", where=str(file))
            tensors[name] = tensor
    _check_index(folder, tensors)
    return tensors


def read_file(path: Path) -> dict[str, Stored]:
    """The tensors of one file."""
    return _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickle(path)


def _check_index(folder: Path, tensors: Mapping[str, Stored]) -> None:
    """Refuse an index that names a tensor which no shard has."""
    for single, index in _LAYOUTS:
        if (folder / index).is_file():
            if lost := sorted(_weight_map(folder / index).keys() - tensors.keys()):
                raise CheckpointError(f"names tensors that no shard has: {listed(lost)}.", where=str(folder / index))
            return
        if (folder / single).is_file():
            return


def _weight_map(index: Path) -> dict[str, str]:
    try:
        weight_map = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        return {str(name): str(file) for name, file in weight_map.items()}
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise CheckpointError("is not an index of shards: it has no 'weight_map'.", where=str(index)) from error


def _shards(folder: Path, index: Path) -> list[Path]:
    names = sorted(set(_weight_map(index).values()))
    for name in names:
        # Compared as text, since the files in the hub's cache are links to another folder.
        path = PurePosixPath(name.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts or ":" in name:
            raise UnsafeFileError(f"shard '{name}' is outside the folder.", where=str(index))
        if not (folder / name).is_file():
            raise CheckpointError(f"shard '{name}' is missing.", where=str(index), hint="Fetch the model again.")
    return [folder / name for name in names]


def _read_safetensors(path: Path) -> dict[str, Stored]:
    try:
        file: Any = safe_open(path, framework="pt", device="cpu")
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
        return {
            name: Stored(
                tuple(each.get_shape()),
                dtype,
                partial(_load, file, name, dtype, path),
            )
            for name, each in slices.items()
            for dtype in (_DTYPES.get(each.get_dtype(), each.get_dtype()),)
        }
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"is truncated or malformed: {error}.", where=str(path), hint="Fetch the file again."
        ) from error


def _load(file: Any, name: str, stored: str, path: Path, dtype: torch.dtype) -> Tensor:
    check_dtype(name, stored, str(path))
    tensor: Tensor = file.get_tensor(name)
    return tensor.to(dtype)  # the mapped tensor itself if it has this dtype


def _load_pickle(path: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about newer pickle protocols, which torch wants reported to its tracker
        try:
            return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError as error:
            if "mmap can only be used" not in str(error):
                raise
            return torch.load(path, map_location="cpu", weights_only=True)  # the format before torch 1.6


def _read_pickle(path: Path) -> dict[str, Stored]:
    try:
        state = _load_pickle(path)
    except pickle.UnpicklingError as error:
        raise UnsafeFileError(
            "is a pickle with more than tensors, which could run code; it was not read.",
            where=str(path),
            hint="Use a checkpoint in safetensors.",
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError) as error:
        raise CheckpointError(f"is truncated or malformed: {error}.", where=str(path)) from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise UnsupportedError("is not a mapping of names to tensors.", where=str(path))
    return {
        name: Stored(tuple(tensor.shape), dtype_name(tensor), partial(_load_unpickled, name, tensor, path))
        for name, tensor in state.items()
    }


def dtype_name(tensor: Tensor) -> str:
    """torch's name of its dtype, as `stored.check_dtype` takes it."""
    return str(tensor.dtype).removeprefix("torch.")


def _load_unpickled(name: str, tensor: Tensor, path: Path, dtype: torch.dtype) -> Tensor:
    check_dtype(name, dtype_name(tensor), str(path))
    return tensor.to(dtype)


def write_weights(folder: Path, tensors: Mapping[str, Tensor], max_shard_bytes: int = MAX_SHARD_BYTES) -> None:
    """Write model.safetensors, or numbered shards with an index if one file would exceed `max_shard_bytes`."""
    shards = list(_by_size(tensors, max_shard_bytes))
    if len(shards) <= 1:
        _write(dict(tensors), folder / _SINGLE)
        return
    weight_map: dict[str, str] = {}
    for number, shard in enumerate(shards, start=1):
        file = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        _write(shard, folder / file)
        weight_map |= dict.fromkeys(shard, file)
    total = sum(tensor.nbytes for tensor in tensors.values())
    storage.write_json(folder / _INDEX, {"metadata": {"total_size": total}, "weight_map": weight_map})


def _write(tensors: dict[str, Tensor], path: Path) -> None:
    try:
        save_file({name: each.contiguous() for name, each in tensors.items()}, path, metadata={"format": "pt"})
    except SafetensorError as error:
        # The library wraps the system's error in its own; a full disk must not look like a bug.
        if found := re.search(r"os error (\d+)", str(error)):
            raise OSError(int(found[1]), os.strerror(int(found[1])), str(path)) from error
        raise
    path.chmod(0o644)  # the library makes it readable by its owner only


def _by_size(tensors: Mapping[str, Tensor], limit: int) -> Iterator[dict[str, Tensor]]:
    shard: dict[str, Tensor] = {}
    size = 0
    for name, tensor in tensors.items():
        if shard and size + tensor.nbytes > limit:
            yield shard
            shard, size = {}, 0
        shard[name] = tensor
        size += tensor.nbytes
    yield shard
