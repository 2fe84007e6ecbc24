"""The weights files of a Hugging Face folder: safetensors or files of torch.save, single or in shards.

Of a folder with several, transformers' order decides: the single file before the shards, safetensors before the rest.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from torch import Tensor

from germinal import storage
from germinal.checkpoints.json_file import read_json
from germinal.checkpoints.references import refuse_escape
from germinal.checkpoints.safetensors_file import read_safetensors, write_safetensors
from germinal.checkpoints.stored import Stored
from germinal.checkpoints.torch_file import read_torch_file
from germinal.errors import CheckpointError, listed

MAX_SHARD_BYTES = 5_000_000_000

_SINGLE, _INDEX = "model.safetensors", "model.safetensors.index.json"
_FILES = (_SINGLE, _INDEX, "pytorch_model.bin", "pytorch_model.bin.index.json")


def read_weights(folder: Path, named: object = None) -> dict[str, Stored]:
    """All tensors of a folder's weights files, by published name.

    Args:
        folder: The folder.
        named: The file or index that config.json names, if it does.

    Raises:
        CheckpointError: a file is truncated, malformed or missing, a tensor is in two files, or the index names one
            that no file has.
        UnsafeFileError: a pickle holds more than tensors, or a file outside the folder is named.
        UnsupportedError: a file is of a kind that is not read.
    """
    chosen = _chosen(folder, named)
    if chosen.suffix != ".json":
        return read_file(chosen)
    weight_map = _weight_map(chosen)
    tensors: dict[str, Stored] = {}
    holders: dict[str, str] = {}
    for shard in sorted(set(weight_map.values())):
        for name, tensor in read_file(_inside(folder, shard, chosen)).items():
            if name in tensors:
                what = f"tensor '{name}' is in the shard {holders[name]} too."
                raise CheckpointError(what, where=str(folder / shard), hint="Keep the right one.")
            tensors[name], holders[name] = tensor, shard
    if lost := sorted(weight_map.keys() - tensors.keys()):
        raise CheckpointError(f"names tensors that no shard has: {listed(lost)}.", where=str(chosen))
    return tensors


def read_file(path: Path) -> dict[str, Stored]:
    """The tensors of one file."""
    return read_safetensors(path) if path.suffix == ".safetensors" else read_torch_file(path)


def _chosen(folder: Path, named: object) -> Path:
    if named is not None:
        if not isinstance(named, str):
            what = f"'transformers_weights' must be the name of a file, not {named!r}."
            raise CheckpointError(what, where=str(folder / "config.json"))
        return _inside(folder, named, folder / "config.json")
    for name in _FILES:
        if (folder / name).exists():
            return folder / name
    raise CheckpointError(f"has no weights: neither {' nor '.join(_FILES[:3])}.", where=str(folder))


def _inside(folder: Path, name: str, named_by: Path) -> Path:
    refuse_escape(name, str(named_by))
    if not (folder / name).exists():
        raise CheckpointError(f"shard '{name}' is missing.", where=str(named_by), hint="Fetch the model again.")
    return folder / name


def _weight_map(index: Path) -> dict[str, str]:
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(file, str) for file in weight_map.values()):
        raise CheckpointError("is not an index of shards: it has no 'weight_map'.", where=str(index))
    return weight_map


def write_weights(folder: Path, tensors: Mapping[str, Tensor], max_shard_bytes: int = MAX_SHARD_BYTES) -> None:
    """Write model.safetensors, or numbered shards with an index if one file would exceed `max_shard_bytes`."""
    shards = list(_by_size(tensors, max_shard_bytes))
    if len(shards) <= 1:
        write_safetensors(tensors, folder / _SINGLE)
        return
    weight_map: dict[str, str] = {}
    for number, shard in enumerate(shards, start=1):
        file = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        write_safetensors(shard, folder / file)
        weight_map |= dict.fromkeys(shard, file)
    total = sum(tensor.nbytes for tensor in tensors.values())
    storage.write_json(folder / _INDEX, {"metadata": {"total_size": total}, "weight_map": weight_map})


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
