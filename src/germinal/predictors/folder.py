"""The folder of a predictor: `predictor.json` with its kind, texts and numbers, and beside it files with tensors.

Nothing in it is code: there is no pickle, and no path in it leads out of the folder.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from germinal.errors import CheckpointError, ModelNotFoundError, UnsupportedError
from germinal.storage import write_json

FILE = "predictor.json"
_FORMAT = 1


def write_content(folder: Path, kind: str, content: Mapping[str, Any]) -> None:
    """Write `predictor.json`."""
    write_json(folder / FILE, {"format": _FORMAT, "kind": kind, **content})


def read_content(folder: Path) -> dict[str, Any]:
    """Read `predictor.json`.

    Raises:
        ModelNotFoundError: there is none.
        CheckpointError: it is damaged.
        UnsupportedError: it is in a format of another version.
    """
    path = folder / FILE
    if not path.is_file():
        raise ModelNotFoundError(
            "there is no saved predictor here.", where=str(folder), hint=f"Its folder would hold a {FILE}."
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        written = content["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise damaged(folder, error) from error
    if written != _FORMAT:
        what = f"was written in format {written}, and this version reads format {_FORMAT}."
        raise UnsupportedError(what, where=str(path), hint="Use the version of germinal that wrote it, or a newer one.")
    return dict(content)


def damaged(folder: Path, error: Exception) -> CheckpointError:
    """The error for a folder that does not hold what it should."""
    return CheckpointError(f"the saved predictor is damaged: {error!r}.", where=str(folder))
