"""A folder's tokenizer: tokenizer.json or older files, both read as the class does that the folder names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from germinal import files
from germinal.checkpoints.json_file import read_json
from germinal.errors import CheckpointError, GerminalError
from germinal.text.tokenizer import Tokenizer
from germinal.text.tokenizer_layout import TokenizerLayout


def folder_tokenizer(folder: Path, name: str, published: Mapping[str, Any] | None = None) -> Tokenizer:
    """The tokenizer of a folder.

    Args:
        published: Its config.json, if that has been read already.

    Raises:
        CheckpointError: a file is missing or malformed.
        UnsupportedError: there is no tokenizer.json, and the family or the class has no layout for older files.
    """
    if published is None and (folder / "config.json").is_file():
        published = read_json(folder / "config.json")
    return Tokenizer.from_folder(folder, name, _layout(folder, published))


def _layout(folder: Path, published: Mapping[str, Any] | None) -> TokenizerLayout | None:
    named = _class_name(folder, published or {})
    if published is None and named is None:
        return None
    from germinal.models import families  # imports torch
    from germinal.models.families import tokenizers

    file = folder / "tokenizer.json"
    if file.is_file():
        return tokenizers.class_beside_file(
            (published or {}).get("model_type"), named, lambda: '"ByteLevel"' in files.read_text(file)
        )
    if published is None:
        return None
    try:
        return tokenizers.class_of_vocabulary(families.for_hf(published).tokenizer, named)
    except GerminalError as error:
        error.where = f"{folder}: {error.where}"
        raise


def _class_name(folder: Path, published: Mapping[str, Any]) -> str | None:
    """The class that tokenizer_config.json names, else config.json."""
    file = folder / "tokenizer_config.json"
    named = files.read_json_object(file).get("tokenizer_class") if file.exists() else None
    named = named or published.get("tokenizer_class") or None
    if named is not None and not isinstance(named, str):
        raise CheckpointError(f"must be a name, not {named!r:.80}.", where=f"{file}: tokenizer_class")
    return named
