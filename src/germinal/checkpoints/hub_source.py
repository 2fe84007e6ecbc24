"""Models on the Hugging Face hub, through huggingface_hub, into our own cache.

What a model needs is listed first (with SHA-256s), fetched, checked, and only then noted as complete: a snapshot that
was interrupted is never taken for a whole one, also not offline.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import Any

from germinal import storage
from germinal.checkpoints.cache import cache_folder, lock, remembered_digest
from germinal.checkpoints.references import HubReference
from germinal.errors import GerminalError, HashMismatchError, ModelNotFoundError
from germinal.progress import Progress, Reporter

_TEXT = ("*.json", "*.jinja", "README.md", "LICENSE*")
_SAFETENSORS = ("model.safetensors", "model-*.safetensors")
_PICKLES = ("pytorch_model.bin", "pytorch_model-*.bin")


@dataclass(frozen=True, slots=True)
class _File:
    """One file of a repository; only large ones come with a SHA-256."""

    name: str
    size: int
    sha256: str | None


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """Which commit a revision stands for, and the files of it that are wanted."""

    commit: str
    files: list[_File]


def fetch_repository(reference: HubReference, reporter: Reporter, offline: bool) -> Path:
    """The folder (or the one file) of a repository, out of the cache or off the hub; see `sources.fetch`."""
    note = _note_path(reference)
    if offline:
        return _from_cache(reference, note)
    # A full commit never changes, so that what is complete needs no look at the hub.
    fixed = len(reference.revision) == 40
    if fixed and note.is_file():
        return _from_cache(reference, note)
    with lock(f"hf:{reference.repository}@{reference.revision}", reporter):
        try:
            snapshot = _look_up(reference)
            path = _download(reference, snapshot, reporter)
        except _UnreachableError as error:
            if note.is_file():
                return _from_cache(reference, note)  # what was fetched before will do
            raise ModelNotFoundError(error.what, hint=error.hint) from error
        storage.write_json(note, {"path": str(path), "commit": snapshot.commit})
    return path


def _note_path(reference: HubReference) -> Path:
    key = storage.digest([reference.repository, reference.revision, reference.file])[:32]
    return cache_folder() / "hub" / "complete" / f"{reference.repository.replace('/', '--')}-{key}.json"


def _endpoint() -> str | None:
    return os.environ.get("HF_ENDPOINT") or None


def _from_cache(reference: HubReference, note: Path) -> Path:
    if note.is_file():
        path = Path(json.loads(note.read_text(encoding="utf-8"))["path"])
        if path.exists():
            return path
    raise ModelNotFoundError(
        f"'{reference.repository}' at revision '{reference.revision}' is not in the cache whole, "
        "and the hub is not asked now or cannot be reached.",
        where=str(cache_folder()),
        hint="Run once with a network, and without GERMINAL_OFFLINE and HF_HUB_OFFLINE.",
    )


class _UnreachableError(GerminalError):
    """The hub gave no answer."""


@contextmanager
def _hub_errors(repository: str, revision: str) -> Iterator[None]:
    """The hub's errors as ours."""
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

    # The HTTP library changed from version to version; its errors are what the hub's own are made from.
    network_errors: tuple[type[BaseException], ...] = (OSError, *HfHubHTTPError.__bases__)
    try:
        yield
    except GatedRepoError as error:
        raise ModelNotFoundError(
            f"the hub gives '{repository}' only to those who accepted its licence.",
            hint="Accept it on the model's page, and set HF_TOKEN.",
        ) from error
    except RevisionNotFoundError as error:
        raise ModelNotFoundError(f"'{repository}' has no revision '{revision}'.") from error
    except RepositoryNotFoundError as error:
        raise ModelNotFoundError(
            f"'{repository}' is neither a folder here nor a model on the hub.",
            hint="Check its name; a private one needs HF_TOKEN.",
        ) from error
    except network_errors as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise _UnreachableError(
            f"the hub could not be asked for '{repository}': {reason}", hint="Check the network and run again."
        ) from error


def _look_up(reference: HubReference) -> _Snapshot:
    from huggingface_hub import HfApi

    with _hub_errors(reference.repository, reference.revision):
        info = HfApi(endpoint=_endpoint()).model_info(
            reference.repository, revision=reference.revision, files_metadata=True
        )
    return _Snapshot(str(info.sha), _wanted(reference, info.siblings or []))


def _wanted(reference: HubReference, siblings: list[Any]) -> list[_File]:
    """The files that a model is loaded from: safetensors where there are any, pickles where there is nothing else."""
    listed = [_File(each.rfilename, each.size or 0, each.lfs.sha256 if each.lfs else None) for each in siblings]
    if reference.file is not None:
        chosen = [file for file in listed if file.name == reference.file]
        if not chosen:
            raise ModelNotFoundError(f"'{reference.repository}' has no file '{reference.file}'.")
        return chosen
    weights = _matching(listed, _SAFETENSORS) or _matching(listed, _PICKLES)
    if not weights:
        packed = [file.name for file in listed if file.name.endswith(".gguf")]
        raise ModelNotFoundError(
            f"'{reference.repository}' has no weights that can be loaded.",
            hint=f"Name one of its files, hf:{reference.repository}:{packed[0]}." if packed else None,
        )
    return _matching(listed, _TEXT) + weights


def _matching(files: list[_File], patterns: tuple[str, ...]) -> list[_File]:
    return [file for file in files if "/" not in file.name and any(fnmatch(file.name, each) for each in patterns)]


def _download(reference: HubReference, snapshot: _Snapshot, reporter: Reporter) -> Path:
    from huggingface_hub import hf_hub_download

    total, done = sum(file.size for file in snapshot.files), 0
    path = Path()
    for file in snapshot.files:
        bar = _reporting_bar(partial(_report, reporter, reference.repository, done, total, file.name))
        with _hub_errors(reference.repository, reference.revision):
            fetched = hf_hub_download(
                reference.repository,
                file.name,
                revision=snapshot.commit,
                cache_dir=cache_folder() / "hub",
                endpoint=_endpoint(),
                tqdm_class=bar,
            )
        path = Path(fetched)
        _check(path, file)
        done += file.size
        _report(reporter, reference.repository, done, total, file.name, 0)
    return path if reference.file is not None else path.parent


def _report(reporter: Reporter, repository: str, before: int, total: int, name: str, bytes_of_file: float) -> None:
    reporter(Progress(f"download {repository}", before + bytes_of_file, total, "bytes", note=name))


def _reporting_bar(report: Callable[[float], None]) -> type[Any]:
    """A progress bar class for huggingface_hub that draws nothing and tells `report` how many bytes have come."""
    from tqdm import tqdm  # type: ignore[import-untyped]  # huggingface_hub brings it

    class Bar(tqdm):  # type: ignore[misc]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **{**kwargs, "disable": True})

        def update(self, n: float | None = 1) -> None:
            self.n += n or 0
            report(self.n)

    return Bar


def _check(path: Path, file: _File) -> None:
    if file.sha256 is None:
        return
    found = remembered_digest(path)
    if found != file.sha256:
        path.resolve().unlink()
        path.unlink(missing_ok=True)
        raise HashMismatchError(
            f"has SHA-256 {found}, the hub says {file.sha256}; it was deleted.",
            where=str(path),
            hint="Run again to fetch it anew.",
        )
