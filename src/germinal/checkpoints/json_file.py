"""JSON files of a checkpoint's folder, read with errors that name the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from germinal.errors import CheckpointError


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file of a checkpoint.

    Raises:
        CheckpointError: the file is missing, no JSON, or no object.
    """
    value = _read(path)
    if not isinstance(value, dict):
        raise CheckpointError("must hold a JSON object.", where=str(path))
    return value


def read_json_list(path: Path) -> list[dict[str, Any]]:
    """A JSON list of objects; errors are those of `read_json`."""
    value = _read(path)
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise CheckpointError("must hold a JSON list of objects.", where=str(path))
    return value


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(
            f"has no {path.name}.", where=str(path.parent), hint="Is this a model's folder?"
        ) from error
    except (ValueError, OSError) as error:
        raise CheckpointError(f"is not valid JSON: {error}.", where=str(path)) from error
