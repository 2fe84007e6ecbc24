"""A folder's tokenizer: tokenizer.json, or the older files, which say what they are only together with config.json."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from germinal.checkpoints.json_file import read_json
from germinal.text.tokenizer import Tokenizer


def folder_tokenizer(folder: Path, name: str, published: Mapping[str, Any] | None = None) -> Tokenizer:
    """The tokenizer of a folder.

    Args:
        published: Its config.json, where that was read already.

    Raises:
        CheckpointError: a file is missing or malformed.
        UnsupportedError: there is no tokenizer.json, and the family's older files are not known.
    """
    if (folder / "tokenizer.json").is_file() or (published is None and not (folder / "config.json").is_file()):
        return Tokenizer.from_folder(folder, name)
    from germinal.models import families  # takes torch with it, which reading a tokenizer.json does without

    family = families.for_hf(read_json(folder / "config.json") if published is None else published)
    return Tokenizer.from_folder(folder, name, family.tokenizer)
