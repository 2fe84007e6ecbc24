"""A folder's tokenizer: tokenizer.json, or older files, which can be read only together with config.json."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from germinal.checkpoints.json_file import read_json
from germinal.text.tokenizer import Tokenizer


def folder_tokenizer(folder: Path, name: str, published: Mapping[str, Any] | None = None) -> Tokenizer:
    """The tokenizer of a folder.

    Args:
        published: Its config.json, if that has been read already.

    Raises:
        CheckpointError: a file is missing or malformed.
        UnsupportedError: there is no tokenizer.json, and the family has no layout for older files.
    """
    if (folder / "tokenizer.json").is_file() or (published is None and not (folder / "config.json").is_file()):
        return Tokenizer.from_folder(folder, name)
    from germinal.models import families  # imports torch, which tokenizer.json does not need

    family = families.for_hf(read_json(folder / "config.json") if published is None else published)
    return Tokenizer.from_folder(folder, name, family.tokenizer)
