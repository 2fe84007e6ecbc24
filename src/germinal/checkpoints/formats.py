"""The formats that checkpoints are read from: a path that is a folder or a .gguf file says which."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from germinal.checkpoints.checkpoint import Checkpoint
from germinal.checkpoints.hf_folder import read_folder
from germinal.errors import CheckpointError, GerminalError, ModelNotFoundError, UnsafeFileError, UnsupportedError

_PICKLES = frozenset({".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt"})


def read(path: Path, dtype: torch.dtype | None = None, name: str | None = None) -> Checkpoint:
    """Read a Hugging Face folder or a GGUF file.

    Args:
        path: The folder or file.
        dtype: float32 or bfloat16; None keeps bfloat16 weights as they are stored and makes float32 of all others.
        name: What to call the model; its own name for itself when None.

    Raises:
        ModelNotFoundError: no such folder or file.
        CheckpointError: a file is truncated or malformed, or the weights are not those that the config describes.
        VocabularyMismatchError: the tokenizer beside the weights is another model's.
        UnsafeFileError: the weights are a pickle that would run code.
        UnsupportedError: a family or format that is not handled.
    """
    if not path.exists():
        raise ModelNotFoundError("no such file or folder.", where=str(path))
    with _naming(path):
        if path.is_dir():
            checkpoint = read_folder(path, dtype, name)
        elif path.suffix == ".gguf":
            from germinal.checkpoints.gguf_file import (
                read_gguf,  # folders are read on machines without the gguf package
            )

            checkpoint = read_gguf(path, dtype, name)
        else:
            raise _unreadable(path)
        checkpoint.tokenizer.check_belongs(checkpoint.config.vocab_size, checkpoint.card.name)
    return checkpoint


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Make every error that comes from reading a checkpoint name it, also where only a config's key was at hand."""
    try:
        yield
    except GerminalError as error:
        if str(path) not in (error.where or ""):
            error.where = f"{path}: {error.where}" if error.where else str(path)
        raise


def _unreadable(path: Path) -> CheckpointError | UnsafeFileError | UnsupportedError:
    if path.suffix in _PICKLES:
        return UnsafeFileError(
            "is a pickle file, which could run code when read.",
            where=str(path),
            hint="Give a folder with safetensors weights, or a .gguf file.",
        )
    if path.suffix == ".safetensors":
        return CheckpointError(
            "holds weights alone.", where=str(path), hint="Give the folder that has its config.json and tokenizer.json."
        )
    return UnsupportedError(
        f"files ending in '{path.suffix}' are no models.", where=str(path), hint="Give a folder or a .gguf file."
    )
