"""Reads and writes Hugging Face folders: config.json, safetensors weights, tokenizer files and model card."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from germinal import storage
from germinal.checkpoints.assembly import assemble
from germinal.checkpoints.cards import ModelCard, read_licence, write_card
from germinal.checkpoints.checkpoint import Checkpoint
from germinal.checkpoints.config_difference import refuse_difference
from germinal.checkpoints.generation_file import TOKEN_IDS, check_start, read_generation_config
from germinal.checkpoints.head_config import head_config_to_hf, read_head_config
from germinal.checkpoints.json_file import read_json
from germinal.checkpoints.sentence_vectors import lower_case, lowers_case, write_pooling
from germinal.checkpoints.stored import Stored, main_precision, preferred_dtype
from germinal.checkpoints.tokenizer_files import folder_tokenizer
from germinal.checkpoints.weight_plan import published_name
from germinal.checkpoints.weights_config import config_for_weights, follow_weights
from germinal.checkpoints.weights_files import MAX_SHARD_BYTES, read_weights, write_weights
from germinal.errors import CheckpointError, UnsupportedError
from germinal.models import families
from germinal.models.config import TransformerConfig


def read_folder(folder: Path, dtype: torch.dtype | None = None, name: str | None = None) -> Checkpoint:
    """Read a folder; see `formats.read`."""
    packed = sorted(folder.glob("*.gguf"))
    if packed and not (folder / "config.json").exists():
        raise CheckpointError("has no config.json.", where=str(folder), hint=f"Give the file itself: {packed[0]}.")
    published = read_json(folder / "config.json")
    family = families.for_hf(published)
    if quantised := published.get("quantization_config"):
        method = quantised.get("quant_method", "unknown") if isinstance(quantised, Mapping) else quantised
        raise UnsupportedError(f"weights quantised by '{method}' are not supported.", where=str(folder / "config.json"))
    published = {**({} if family.keys is None else family.keys.tokens), **published}
    stored = read_weights(folder, published.get("transformers_weights"))
    config = config_for_weights(published, family, stored, str(folder))
    state = assemble(
        stored, family.hf_rules(config), config, dtype or preferred_dtype(stored.values()), where=str(folder)
    )
    generation_config = read_generation_config(folder, published)
    check_start(generation_config, config, folder)
    source = _source_of(folder)
    own_name = name or source.removeprefix("hf:")
    tokenizer = folder_tokenizer(folder, own_name, published)
    if lowers_case(folder):
        lower_case(tokenizer.backend)
    return Checkpoint(
        path=folder,
        config=config,
        family=family,
        state_dict=state,
        tokenizer=tokenizer,
        generation_config=generation_config,
        card=ModelCard(
            name=own_name,
            licence=read_licence(folder),
            source=source,
            stored_precision=main_precision(stored.values()),
        ),
        head_config=read_head_config(folder, published, config),
    )


def write_folder(folder: Path, checkpoint: Checkpoint, *, max_shard_bytes: int = MAX_SHARD_BYTES) -> None:
    """Write a folder that transformers, vLLM and llama.cpp's converter read, atomically.

    Raises:
        UnsupportedError: the family's config.json cannot express the config.
        StorageError: the disk is full or the folder cannot be written.
    """
    config, family = checkpoint.config, checkpoint.family
    described = _described(checkpoint)
    _check_read_back(described, checkpoint)
    published = dict(family.hf_rules(config).convert_to_theirs(checkpoint.state_dict))
    with storage.atomic_folder(folder) as temporary:
        storage.write_json(temporary / "config.json", described)
        write_weights(temporary, published, max_shard_bytes)
        checkpoint.tokenizer.save(temporary)
        storage.write_json(temporary / "generation_config.json", dict(checkpoint.generation_config))
        if checkpoint.head_config.pooling is not None:
            write_pooling(temporary, checkpoint.head_config.pooling, config.hidden_size)
        parameters = sum(tensor.numel() for tensor in published.values())
        write_card(temporary, checkpoint.card, checkpoint.precision, parameters, _task(config))


def _described(checkpoint: Checkpoint) -> dict[str, Any]:
    """The contents of config.json. What the network depends on comes from its config, not from the tokenizer."""
    tokenizer, generation_config = checkpoint.tokenizer, checkpoint.generation_config
    published = checkpoint.family.config_to_hf(checkpoint.config)
    named = {"bos_token_id": tokenizer.bos_id, "eos_token_id": tokenizer.eos_id, "pad_token_id": tokenizer.pad_id}
    rows = checkpoint.config.vocab_size
    return {
        **published,
        **{key: id for key, id in named.items() if id is not None and id < rows and key not in published},
        **{key: generation_config[key] for key in TOKEN_IDS if key in generation_config and key not in published},
        **head_config_to_hf(checkpoint.head_config, checkpoint.config),
        "torch_dtype": checkpoint.precision,
    }


def _check_read_back(described: Mapping[str, Any], checkpoint: Checkpoint) -> None:
    """Refuse a config that would be read back as another."""
    config, family = checkpoint.config, checkpoint.family
    rules = family.hf_rules(config)
    stored = {
        published_name(rules, name): Stored(tuple(tensor.shape), checkpoint.precision, tensor.to)
        for name, tensor in checkpoint.state_dict.items()
    }
    again = follow_weights(family.config_from_hf(described), family, stored)
    refuse_difference(again, config, form=f"config.json of the family '{family.name}'")


def _task(config: TransformerConfig) -> str:
    """The hub's name of a head's task."""
    if config.head == "lm":
        return "text-generation" if config.stacks == "decoder" else "text2text-generation"
    tasks = {"masked-lm": "fill-mask", "sequence-classification": "text-classification"}
    known = ("token-classification", "question-answering")
    return config.head if config.head in known else tasks.get(config.head or "", "feature-extraction")


def _source_of(folder: Path) -> str:
    """The folder's name, or, of a snapshot in the hub's cache, the reference of its repository."""
    path = folder.resolve()
    repository = path.parent.parent.name
    if path.parent.name == "snapshots" and repository.startswith("models--"):
        return f"hf:{repository.removeprefix('models--').replace('--', '/')}"
    return path.name
