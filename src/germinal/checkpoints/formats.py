"""The formats that checkpoints are read from and written to: Hugging Face folders and .gguf files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from germinal.checkpoints.checkpoint import Checkpoint
from germinal.checkpoints.hf_folder import read_folder, write_folder
from germinal.errors import (
    CheckpointError,
    GerminalError,
    ModelNotFoundError,
    SettingError,
    UnsafeFileError,
    UnsupportedError,
)

_PICKLES = frozenset({".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt"})


def read(path: Path, dtype: torch.dtype | None = None, name: str | None = None) -> Checkpoint:
    """Read a Hugging Face folder or a GGUF file.

    Args:
        path: The folder or file.
        dtype: float32 or bfloat16; None is bfloat16 if the weights are stored so, otherwise float32.
        name: The model's name; None is the name that the checkpoint gives it.

    Raises:
        ModelNotFoundError: there is no such folder or file.
        CheckpointError: a file is truncated or malformed, or the weights do not match the config.
        VocabularyMismatchError: the tokenizer belongs to another model.
        UnsafeFileError: the weights are a pickle that could run code.
        UnsupportedError: the family, the format or a feature of the model is not supported.
    """
    if not path.exists():
        raise ModelNotFoundError("there is no such file or folder.", where=str(path))
    with _naming(path):
        if path.is_dir():
            checkpoint = read_folder(path, dtype, name)
        elif path.suffix == ".gguf":
            from germinal.checkpoints.gguf_file import read_gguf  # folders need no gguf package

            checkpoint = read_gguf(path, dtype, name)
        else:
            raise _unreadable(path)
        checkpoint.tokenizer.check_belongs(checkpoint.config.vocab_size, checkpoint.card.name)
    return checkpoint


def write(path: Path, checkpoint: Checkpoint, *, precision: str | None = None, without_head: bool = False) -> None:
    """Write a GGUF file where the path ends in .gguf, otherwise a Hugging Face folder.

    Args:
        path: The folder or file.
        checkpoint: What to write.
        precision: Of the matrices in a .gguf file: "float32", "bfloat16" or "float16"; None keeps the dtype.
        without_head: Leave out the head of an encoder, which the GGUF format seldom has a place for.

    Raises:
        UnsupportedError: GGUF has no form for the model, its head or its tokenizer.
        SettingError: the precision is unknown, or a setting of .gguf files was given for a folder.
        StorageError: the disk is full, or the path cannot be written.
    """
    if path.suffix == ".gguf":
        from germinal.checkpoints.gguf_writer import write_gguf

        write_gguf(path, checkpoint, precision=precision, without_head=without_head)
        return
    if precision is not None or without_head:
        name = "without_head" if precision is None else "precision"
        raise SettingError("is for .gguf files only: a folder holds the weights as they were loaded.", where=name)
    write_folder(path, checkpoint)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Add the path to errors that name only a part of the checkpoint, such as a key of its config."""
    try:
        yield
    except GerminalError as error:
        if str(path) not in (error.where or ""):
            error.where = f"{path}: {error.where}" if error.where else str(path)
        raise


def _unreadable(path: Path) -> CheckpointError | UnsafeFileError | UnsupportedError:
    if path.suffix in _PICKLES:
        return UnsafeFileError(
            "is a pickle, which could run code.",
            where=str(path),
            hint="Give a folder with safetensors weights, or a .gguf file.",
        )
    if path.suffix == ".safetensors":
        return CheckpointError(
            "has only weights.", where=str(path), hint="Give the folder, with config.json and tokenizer.json."
        )
    return UnsupportedError(
        f"the format '{path.suffix}' is not supported.", where=str(path), hint="Give a folder or a .gguf file."
    )
