"""The tensors of a PEFT folder, under names without what PEFT puts around them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from germinal.checkpoints.stored import Stored, check_dtype
from germinal.checkpoints.weights_files import read_file
from germinal.errors import CheckpointError, ModelNotFoundError, listed

WEIGHTS, PICKLE = "adapter_model.safetensors", "adapter_model.bin"
_PREFIX = "base_model.model."
VIRTUAL_TOKENS = "prompt_embeddings"
ANOTHER_BASE = "Was the adapter trained on another base model?"

_NAMED = re.compile(
    r"\.(lora_A|lora_B|lora_embedding_A|lora_embedding_B|lora_magnitude_vector|trainable_tokens_delta)\.default(?=\.|$)"
)
"""Parts of an adapter with its name behind them, as in a state dict that was not saved by PEFT."""


class AdapterTensors:
    """The tensors of an adapter, each read once.

    Args:
        folder: A PEFT folder.

    Raises:
        ModelNotFoundError: the folder has no weights.
        UnsafeFileError: the weights are a pickle with more than tensors.
        CheckpointError: the file is damaged.
        UnsupportedError: a tensor's dtype is not read.
    """

    def __init__(self, folder: Path) -> None:
        self.file = folder / WEIGHTS if (folder / WEIGHTS).exists() else folder / PICKLE
        if not self.file.exists():
            raise ModelNotFoundError(f"has no {WEIGHTS}.", where=str(folder))
        self._stored: dict[str, Stored] = {}
        self._names: dict[str, str] = {}
        for name, stored in read_file(self.file).items():
            check_dtype(name, stored.precision, str(self.file))
            short = short_name(name)
            if short in self._stored:
                raise CheckpointError(f"has two tensors for {short}.", where=str(self.file))
            self._stored[short] = stored
            self._names[short] = name

    @property
    def names(self) -> list[str]:
        """The tensors that have not been read."""
        return sorted(self._stored)

    def shape(self, name: str) -> tuple[int, ...] | None:
        """The shape of a tensor that has not been read; None if there is none."""
        return self._stored[name].shape if name in self._stored else None

    def require(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Check, before anything is read, that tensors are there and have these shapes.

        Raises:
            CheckpointError: names those that do not.
        """
        self.require_names(shapes)
        for name, shape in shapes.items():
            if self._stored[name].shape != shape:
                found = list(self._stored[name].shape)
                raise CheckpointError(
                    f"{published_name(name)} has the shape {found}; its config and the model require {list(shape)}.",
                    where=str(self.file),
                    hint=ANOTHER_BASE,
                )

    def require_names(self, names: Iterable[str]) -> None:
        """Check that there are tensors of these names; a CheckpointError names those that are missing."""
        if missing := sorted(set(names) - self._stored.keys()):
            lacking = listed([published_name(name) for name in missing], most=3)
            raise CheckpointError(f"lacks {lacking}.", where=str(self.file), hint=ANOTHER_BASE)

    def take(self, name: str) -> Tensor:
        """The values of a tensor, float32, in memory of their own."""
        return self._stored.pop(name).load(torch.float32).clone()

    def refuse_others(self) -> None:
        """Refuse tensors that nothing has asked for: they would be left out in silence.

        Raises:
            CheckpointError: names them.
        """
        if self._stored:
            extra = listed([self._names[name] for name in self.names], most=3)
            raise CheckpointError(
                f"has tensors that its config and the model do not: {extra}.",
                where=str(self.file),
                hint="Is the base model of the class that the adapter was trained on?",
            )

    def digests(self) -> dict[str, list[object]]:
        """Shape, dtype and SHA-256 of each tensor, by its published name."""
        found: dict[str, list[object]] = {}
        for name, stored in self._stored.items():
            tensor = stored.load(getattr(torch, stored.precision)).contiguous().flatten()
            values = hashlib.sha256(tensor.view(torch.uint8).numpy().tobytes()).hexdigest()
            found[published_name(name)] = [list(stored.shape), f"torch.{stored.precision}", values]
        return found


def short_name(name: str) -> str:
    """A tensor's name without PEFT's prefix and the adapter's name."""
    short = _NAMED.sub(r".\1", name.removeprefix(_PREFIX))
    return short.removesuffix(".weight") if short.endswith(".lora_magnitude_vector.weight") else short


def published_name(short: str) -> str:
    """A tensor's name in a PEFT folder."""
    return short if short == VIRTUAL_TOKENS else _PREFIX + short
