"""Models on disk: where they come from, Hugging Face folders, safetensors, GGUF and adapters."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from germinal.progress import Reporter, silent
from germinal.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from germinal.models.config import TransformerConfig

__all__ = ["config_at", "read_tokenizer", "read_tokenizer_and_path", "tokenizer_at"]


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


def config_at(path: Path) -> TransformerConfig:
    """The network's config in a folder or a GGUF file, whose weights are not read.

    Raises:
        CheckpointError: a file is missing or malformed.
        UnsupportedError: the family is unknown, or the config asks for what germinal does not support.
    """
    from germinal.checkpoints.assembly import read_config
    from germinal.models import families

    if path.is_dir():
        from germinal.checkpoints.json_file import read_json

        published = read_json(path / "config.json")
        return read_config(partial(families.for_hf(published).config_from_hf, published))
    from germinal.checkpoints.gguf_file import config_tensors
    from germinal.checkpoints.gguf_header import read_header

    header = read_header(path)
    family = families.for_gguf(str(header.metadata.get("general.architecture")))
    return read_config(partial(family.config_from_gguf, header.metadata, config_tensors(header)))
