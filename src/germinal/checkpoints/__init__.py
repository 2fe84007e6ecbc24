"""Models on disk: where they come from, Hugging Face folders, safetensors, GGUF and adapters."""

from __future__ import annotations

from pathlib import Path

from germinal.progress import Reporter, silent
from germinal.text.tokenizer import Tokenizer

__all__ = ["read_tokenizer", "read_tokenizer_and_path", "tokenizer_at"]


def read_tokenizer(ref: str, reporter: Reporter = silent) -> Tokenizer:
    """A model's tokenizer, without reading weights or importing torch.

    Raises:
        ModelNotFoundError: there is no such model.
        CheckpointError: its tokenizer is missing or malformed.
    """
    return read_tokenizer_and_path(ref, reporter)[0]


def read_tokenizer_and_path(ref: str, reporter: Reporter = silent) -> tuple[Tokenizer, Path]:
    """The same, and the folder or file that it is in."""
    from germinal.checkpoints import sources

    path = sources.fetch(ref, reporter=reporter)
    return tokenizer_at(path, sources.name_of(ref, path)), path


def tokenizer_at(path: Path, name: str) -> Tokenizer:
    """The tokenizer of a folder or of a GGUF file; errors are those of `read_tokenizer`."""
    if path.is_dir():
        from germinal.checkpoints.tokenizer_files import folder_tokenizer

        return folder_tokenizer(path, name)
    from germinal.checkpoints.gguf_header import read_header
    from germinal.checkpoints.gguf_tokenizer import tokenizer_from_gguf

    return tokenizer_from_gguf(read_header(path).metadata, name)
