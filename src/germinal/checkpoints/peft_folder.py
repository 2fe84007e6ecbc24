"""Adapters as folders of the PEFT library: adapter_config.json and adapter_model.safetensors.

Layers have the family's published names, so that adapters written here work in transformers, vLLM and llama.cpp's
converter, and adapters of PEFT work here.
"""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import save

from germinal.checkpoints.peft_config import CONFIG, effect, read_raw, require_kind
from germinal.checkpoints.peft_reading import read_lora, read_virtual_tokens
from germinal.checkpoints.peft_tensors import WEIGHTS, AdapterTensors
from germinal.checkpoints.peft_writing import published_adapter
from germinal.layers.adapters import adapter_routing, attach_adapter, check_name
from germinal.models.families import Family
from germinal.models.transformer import Transformer
from germinal.storage import atomic_folder, digest, write_json


def save_adapter(
    network: Transformer,
    name: str,
    folder: Path,
    *,
    family: Family,
    base: str | None = None,
    revision: str | None = None,
) -> None:
    """Write adapter `name` of `network` as a PEFT folder, replacing what is there.

    Args:
        network: The network that has it.
        name: Its name in the network, which the folder does not keep.
        folder: The folder to write.
        family: The network's family, for the published names of its layers.
        base: Where PEFT finds the base model: a folder, or its name on the hub.
        revision: The base's revision on the hub.

    Raises:
        UnsupportedError: a layer or parameter has no published name.
        StorageError: the folder cannot be written.
    """
    config, tensors = published_adapter(network, adapter_routing(network).require(name), family)
    with atomic_folder(folder) as temporary:
        write_json(temporary / CONFIG, {**config, "base_model_name_or_path": base, "revision": revision})
        (temporary / WEIGHTS).write_bytes(save(tensors, metadata={"format": "pt"}))


def load_adapter(network: Transformer, folder: Path, name: str, *, family: Family) -> None:
    """Add the adapter in a PEFT folder to `network`, under `name`. After an error the network is unchanged.

    Raises:
        ModelNotFoundError: the folder has no adapter.
        UnsafeFileError: its weights are a pickle with more than tensors.
        UnsupportedError: its method or one of its settings is not supported.
        CheckpointError: a file is damaged, or its tensors are not those that its config and the network require.
        SettingError: the network already has an adapter of this name.
    """
    check_name(network, name)
    raw = read_raw(folder)
    if require_kind(raw, folder):
        adapter = read_virtual_tokens(network, raw, folder, AdapterTensors(folder))
    else:
        adapter = read_lora(network, family, raw, folder, AdapterTensors(folder))
    attach_adapter(network, name, adapter)


def adapter_digest(folder: Path) -> str:
    """SHA-256 of what determines the effect of the adapter in a PEFT folder: its tensors, and what the config says of
    their use.
    """
    return digest({**effect(read_raw(folder), folder), "tensors": AdapterTensors(folder).digests()})
