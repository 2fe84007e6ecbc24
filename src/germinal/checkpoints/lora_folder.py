"""LoRA adapters as folders of the PEFT library: adapter_config.json and adapter_model.safetensors.

Layers have the family's published names, so that adapters written here work in transformers, vLLM and llama.cpp's
converter, and adapters of PEFT work here. Anything beyond plain LoRA is refused by the name of its setting, never
ignored: a setting that is not known here must be empty.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor
from torch.nn import functional

from germinal.checkpoints.lora_layers import published_layers
from germinal.errors import CheckpointError, ModelNotFoundError, UnsafeFileError, UnsupportedError, listed
from germinal.layers.linear import adapter_parts, adapter_routing, add_adapter
from germinal.layers.lora_config import LoRAConfig
from germinal.models.families import Family
from germinal.models.transformer import Transformer
from germinal.storage import atomic_folder, digest, write_json

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_PREFIX = "base_model.model."

_PLAIN = {
    *("peft_type", "peft_version", "task_type", "auto_mapping", "inference_mode"),
    *("base_model_name_or_path", "revision", "megatron_core", "qalora_group_size", "fan_in_fan_out"),
    *("r", "lora_alpha", "lora_dropout", "use_rslora", "init_lora_weights"),
    *("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern"),
}
"""Settings of plain LoRA, and settings without effect on an adapter. (`fan_in_fan_out` says that the base's weights are
transposed, which is known from its family.)
"""

_PLAIN_STARTS = (True, False, None, "gaussian", "orthogonal", "eva")
"""Initialisations that do not change the base's weights, as pissa, olora and others do."""


def save_adapter(network: Transformer, name: str, folder: Path, *, family: Family, base_ref: str | None = None) -> None:
    """Write adapter `name` of `network` as a PEFT folder, replacing what is there.

    Args:
        network: The network that has it.
        name: Its name in the network, which the folder does not keep.
        folder: The folder to write.
        family: The network's family, for the published names of its layers.
        base_ref: A reference to the base model, for users of the folder.

    Raises:
        UnsupportedError: a layer has no published name.
        StorageError: the folder cannot be written.
    """
    config = adapter_routing(network).require(name)
    published = published_layers(network, family)
    parts = adapter_parts(network, name)
    fused = {layer.name: layer.fuse(parts) for layer in published if not parts.keys().isdisjoint(layer.ours)}
    task_type = "SEQ_2_SEQ_LM" if network.config.stacks == "encoder-decoder" else "CAUSAL_LM"
    # Plain LoRA has one rank for all layers, so that smaller ones are padded with zeros.
    rank = max(down.shape[0] for down, _ in fused.values())
    tensors: dict[str, Tensor] = {}
    for layer, (down, up) in fused.items():
        missing = rank - down.shape[0]
        tensors[f"{_PREFIX}{layer}.lora_A.weight"] = functional.pad(down, (0, 0, 0, missing)).cpu().contiguous()
        tensors[f"{_PREFIX}{layer}.lora_B.weight"] = functional.pad(up, (0, missing)).cpu().contiguous()
    with atomic_folder(folder) as temporary:
        known = [layer.name for layer in published]
        config = _of_rank(config, rank)
        write_json(
            temporary / CONFIG, _config_to_peft(config, list(fused), known, task_type=task_type, base_ref=base_ref)
        )
        (temporary / WEIGHTS).write_bytes(save(tensors, metadata={"format": "pt"}))


def load_adapter(network: Transformer, folder: Path, name: str, *, family: Family) -> LoRAConfig:
    """Add the adapter in a PEFT folder to `network`, under `name`. After an error the network is unchanged.

    Raises:
        ModelNotFoundError: the folder has no adapter.
        UnsafeFileError: its weights are a pickle.
        UnsupportedError: it is not plain LoRA.
        CheckpointError: a file is damaged, or its tensors are not those that its config and the network require.
        SettingError: the network already has an adapter of this name.
    """
    raw = _read_raw(folder)
    config = read_config(folder)
    published = {layer.name: layer for layer in published_layers(network, family)}
    tensors = _read_weights(folder)
    layers = [published[each] for each in _targeted(raw, list(published), folder)]
    shapes: dict[str, tuple[int, ...]] = {}
    for layer in layers:
        shapes[f"{_PREFIX}{layer.name}.lora_A.weight"] = (config.rank, layer.in_features)
        shapes[f"{_PREFIX}{layer.name}.lora_B.weight"] = (layer.out_features, config.rank)
    _check_tensors(tensors, shapes, folder / WEIGHTS)
    parts = add_adapter(network, name, config, layers=[each for layer in layers for each in layer.ours])
    with torch.no_grad():
        for layer in layers:
            down, up = (tensors[f"{_PREFIX}{layer.name}.lora_{each}.weight"] for each in "AB")
            layer.split(down, up, parts)
    return config


def read_config(folder: Path) -> LoRAConfig:
    """The config of the adapter in a PEFT folder; errors are those of `load_adapter`."""
    raw = _read_raw(folder)
    where = str(folder / CONFIG)
    if raw.get("peft_type") != "LORA":
        raise UnsupportedError(f"is a {raw.get('peft_type')} adapter; only LORA is supported.", where=where)
    for key, value in raw.items():
        if key not in _PLAIN and value not in (None, False, "none") and value not in ({}, []):
            raise UnsupportedError(f"'{key}' is {json.dumps(value)}; only plain LoRA is supported.", where=where)
    start = raw.get("init_lora_weights", True)
    if start not in _PLAIN_STARTS:
        raise UnsupportedError(f"'init_lora_weights' is '{start}', which changes the base's weights.", where=where)
    targets, layers = raw.get("target_modules"), raw.get("layers_to_transform")
    try:
        return LoRAConfig(
            rank=int(raw["r"]),
            alpha=float(raw["lora_alpha"]),
            dropout=float(raw.get("lora_dropout", 0.0)),
            target_modules=tuple(sorted(targets)) if isinstance(targets, list) else (str(targets),),
            layers=None if layers is None else tuple([layers] if isinstance(layers, int) else layers),
            use_rslora=bool(raw.get("use_rslora", False)),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"is not the config of a LoRA adapter: {error!r}.", where=where) from error


def adapter_digest(folder: Path) -> str:
    """SHA-256 of what determines the effect of the adapter in a PEFT folder: its tensors and their scale."""
    config = read_config(folder)
    tensors = {
        name: [list(tensor.shape), str(tensor.dtype), _bytes_digest(tensor)]
        for name, tensor in _read_weights(folder).items()
    }
    return digest({"scaling": config.scaling, "tensors": tensors})


def _bytes_digest(tensor: Tensor) -> str:
    return hashlib.sha256(tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes()).hexdigest()


def _of_rank(config: LoRAConfig, rank: int) -> LoRAConfig:
    """The config with another rank and the same scaling."""
    grown = rank / config.rank
    return replace(config, rank=rank, alpha=config.alpha * (math.sqrt(grown) if config.use_rslora else grown))


def _config_to_peft(
    config: LoRAConfig, adapted: list[str], known: list[str], *, task_type: str, base_ref: str | None
) -> dict[str, Any]:
    """The contents of adapter_config.json. Layers have short names if these select exactly the adapted ones."""
    short = sorted({layer.rpartition(".")[2] for layer in adapted})
    raw: dict[str, Any] = {
        "peft_type": "LORA",
        "task_type": task_type,
        "base_model_name_or_path": base_ref,
        "inference_mode": True,
        "r": config.rank,
        "lora_alpha": int(config.alpha) if config.alpha == int(config.alpha) else config.alpha,
        "lora_dropout": config.dropout,
        "use_rslora": config.use_rslora,
        "use_dora": False,
        "bias": "none",
        "fan_in_fan_out": False,
        "init_lora_weights": True,
        "modules_to_save": None,
        "layers_to_transform": None if config.layers is None else sorted(config.layers),
        "target_modules": short,
    }
    if sorted(_matching(raw, known)) != sorted(adapted):
        raw |= {"target_modules": sorted(adapted), "layers_to_transform": None}
    return raw


def _targeted(raw: Mapping[str, Any], known: list[str], folder: Path) -> list[str]:
    """The published names of the layers that a config selects."""
    matching = _matching(raw, known)
    if not matching:
        raise CheckpointError(
            f"adapts {raw.get('target_modules')}, which the model does not have.",
            where=str(folder / CONFIG),
            hint="Was it trained on another base model?",
        )
    return matching


def _matching(raw: Mapping[str, Any], known: list[str]) -> list[str]:
    """The selected layers, by PEFT's rules: a string is a regular expression for whole names, a list has ends of names.

    The index of a layer is the first number in its name: 2 in encoder.block.2.layer.0.
    """
    targets, excluded = raw.get("target_modules") or [], raw.get("exclude_modules") or []
    layers = raw.get("layers_to_transform")
    chosen = [layers] if isinstance(layers, int) else layers
    return [
        name
        for name in known
        if _names(targets, name)
        and not _names(excluded, name)
        and (chosen is None or next((int(part) for part in name.split(".") if part.isdigit()), None) in chosen)
    ]


def _names(targets: str | list[str], name: str) -> bool:
    if targets == "all-linear":
        return name != "lm_head"
    if isinstance(targets, str):
        return re.fullmatch(targets, name) is not None
    return any(name == target or name.endswith(f".{target}") for target in targets)


def _check_tensors(tensors: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]], file: Path) -> None:
    missing, extra = sorted(shapes.keys() - tensors.keys()), sorted(tensors.keys() - shapes.keys())
    for names, what in ((missing, "lacks"), (extra, "has tensors that its config and the model do not:")):
        if names:
            raise CheckpointError(f"{what} {listed(names, most=3)}.", where=str(file))
    for name, shape in shapes.items():
        if tuple(tensors[name].shape) != shape:
            raise CheckpointError(
                f"{name} has the shape {list(tensors[name].shape)}; its config and the model require {list(shape)}.",
                where=str(file),
                hint="Was the adapter trained on another base model?",
            )


def _read_raw(folder: Path) -> dict[str, Any]:
    file = folder / CONFIG
    if not file.is_file():
        raise ModelNotFoundError(f"has no {CONFIG}.", where=str(folder), hint="A LoRA adapter is a PEFT folder.")
    try:
        raw = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"cannot be read: {error}.", where=str(file)) from error
    if not isinstance(raw, dict):
        raise CheckpointError("is not a JSON object.", where=str(file))
    return raw


def _read_weights(folder: Path) -> dict[str, Tensor]:
    file = folder / WEIGHTS
    if not file.is_file():
        if (folder / "adapter_model.bin").exists():
            raise UnsafeFileError(
                "is a pickle, which could run code.",
                where=str(folder / "adapter_model.bin"),
                hint="Save the adapter as safetensors.",
            )
        raise ModelNotFoundError(f"has no {WEIGHTS}.", where=str(folder))
    try:
        return load_file(file)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"cannot be read: {error}.", where=str(file)) from error
