"""The folder of a predictor: `predictor.json` with its kind, texts and numbers, and beside it files with tensors.

Nothing in it is code: there is no pickle, and no path in it leads out of the folder. What is read is checked: the
folder may be somebody else's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from germinal.errors import CheckpointError, ModelNotFoundError, UnsupportedError
from germinal.files import check_folder, read_json_object
from germinal.storage import write_json

FILE = "predictor.json"
_TENSORS = "model.safetensors"
_DTYPES = frozenset({"float32", "float64", "int32", "int64"})
_FORMAT = 1
_Value = TypeVar("_Value")


class Shape(BaseModel):
    """What the content of a predictor of one kind has to be; other keys are left alone."""

    model_config = ConfigDict(strict=True, frozen=True, allow_inf_nan=False)


def write_content(folder: Path, kind: str, content: Mapping[str, Any]) -> None:
    """Write `predictor.json`."""
    write_json(folder / FILE, {"format": _FORMAT, "kind": kind, **content})


def read_content(folder: Path) -> dict[str, Any]:
    """Read `predictor.json`.

    Raises:
        ModelNotFoundError: there is none.
        CheckpointError: it is damaged.
        UnsafeFileError: a link in the folder leads out of it.
        UnsupportedError: it is in a format of another version.
    """
    path = folder / FILE
    if not path.is_file():
        raise ModelNotFoundError(
            "there is no saved predictor here.", where=str(folder), hint=f"Its folder would hold a {FILE}."
        )
    check_folder(folder)
    content = read_json_object(path)
    if "format" not in content:
        raise damaged(folder, KeyError("format"))
    written = content["format"]
    if written != _FORMAT:
        what = f"was written in format {written}, and this version reads format {_FORMAT}."
        raise UnsupportedError(what, where=str(path), hint="Use the version of germinal that wrote it, or a newer one.")
    return content


def write_tensors(folder: Path, tensors: Mapping[str, NDArray[Any]]) -> None:
    """Write what was fitted, beside `predictor.json`."""
    save_file({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}, folder / _TENSORS)


def read_tensors(folder: Path) -> dict[str, NDArray[Any]]:
    """Read what was fitted.

    Raises:
        CheckpointError: the file is missing or damaged.
    """
    try:
        tensors = load_file(folder / _TENSORS)
    except (OSError, SafetensorError) as error:
        raise damaged(folder, error) from error
    if strange := [name for name, tensor in tensors.items() if tensor.dtype.name not in _DTYPES]:
        raise damaged(folder, TypeError(f"{strange[0]} is stored as {tensors[strange[0]].dtype}"))
    return tensors


def typed(content: Mapping[str, Any], shape: type[_Value], folder: Path) -> _Value:
    """The content as a value of a type.

    Raises:
        CheckpointError: a key is missing, or its value has another type.
        SettingError: the value is one that the type refuses.
    """
    try:
        adapter: TypeAdapter[_Value] = _adapter(shape)  # type: ignore[arg-type]
        return adapter.validate_json(json.dumps(content), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise damaged(folder, ValueError(f"{where}: {first['msg']}")) from error


@cache
def _adapter(shape: Any) -> Any:
    return TypeAdapter(shape)


def damaged(folder: Path, error: Exception) -> CheckpointError:
    """The error for a folder that does not hold what it should."""
    return CheckpointError(f"the saved predictor is damaged: {error!r}.", where=str(folder))
