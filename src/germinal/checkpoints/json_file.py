"""Reads the JSON files of a checkpoint's folder, with errors that name the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from germinal.errors import CheckpointError


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        CheckpointError: the file is missing, not JSON, or not an object.
    """
    value = _read(path)
    if not isinstance(value, dict):
        raise CheckpointError("must hold a JSON object.", where=str(path))
    return value


def read_json_list(path: Path) -> list[dict[str, Any]]:
    """The JSON list of objects in a file; errors are those of `read_json`."""
    value = _read(path)
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise CheckpointError("must hold a JSON list of objects.", where=str(path))
    return value


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(
            f"has no {path.name}.", where=str(path.parent), hint="Is it the folder of a model?"
        ) from error
    except (ValueError, OSError) as error:
        raise CheckpointError(f"is not valid JSON: {error}.", where=str(path)) from error
