"""Reads the JSON files of a checkpoint's folder, with errors that name the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from germinal import files
from germinal.errors import CheckpointError


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        CheckpointError: the file is missing, cannot be read, is not JSON, or not an object.
    """
    _require(path)
    return files.read_json_object(path)


def read_json_list(path: Path) -> list[dict[str, Any]]:
    """The JSON list of objects in a file; errors are those of `read_json`."""
    _require(path)
    value = files.read_json(path)
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise CheckpointError("must hold a JSON list of objects.", where=str(path))
    return value


def _require(path: Path) -> None:
    if not path.exists():
        raise CheckpointError(f"has no {path.name}.", where=str(path.parent), hint="Is it the folder of a model?")
