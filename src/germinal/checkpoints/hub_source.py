"""Models on the Hugging Face hub, fetched into our own cache with huggingface_hub.

The files of a model are listed with their SHA-256s, fetched, checked, and only then noted as complete, so that an
interrupted snapshot is never taken for a complete one, even offline.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import Any

from germinal import files, storage
from germinal.checkpoints.cache import cache_folder, lock, remembered_digest
from germinal.checkpoints.references import HubReference
from germinal.errors import GerminalError, HashMismatchError, ModelNotFoundError
from germinal.progress import Progress, Reporter

_TEXT = ("*.json", "*.jinja", "README.md", "LICENSE*")
_SAFETENSORS = ("model.safetensors", "model-*.safetensors")
_PICKLES = ("pytorch_model.bin", "pytorch_model-*.bin")


@dataclass(frozen=True, slots=True)
class _File:
    """One file of a repository; the hub gives the SHA-256 of large files only."""

    name: str
    size: int
    sha256: str | None


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """The commit of a revision, and its files that are needed."""

    commit: str
    files: list[_File]


def fetch_repository(reference: HubReference, reporter: Reporter, offline: bool) -> Path:
    """The folder, or the one file, of a repository, from the cache or the hub; see `sources.fetch`."""
    note = _note_path(reference)
    if offline:
        return _from_cache(reference, note)
    # A full commit hash never changes, so that a complete snapshot need not be looked up.
    fixed = len(reference.revision) == 40
    if fixed and note.is_file():
        return _from_cache(reference, note)
    with lock(f"hf:{reference.repository}@{reference.revision}", reporter):
        try:
            snapshot = _look_up(reference)
            path = _download(reference, snapshot, reporter)
        except _UnreachableError as error:
            if note.is_file():
                return _from_cache(reference, note)  # the earlier snapshot is better than none
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
        path = Path(str(files.read_json_object(note).get("path", "")))
        if path.exists():
            return path
    raise ModelNotFoundError(
        f"'{reference.repository}' at revision '{reference.revision}' is not complete in the cache, "
        "and germinal is offline.",
        where=str(cache_folder()),
        hint="Run it once online, without GERMINAL_OFFLINE and HF_HUB_OFFLINE.",
    )


class _UnreachableError(GerminalError):
    """The hub did not answer."""


@contextmanager
def _hub_errors(repository: str, revision: str) -> Iterator[None]:
    """Turn the hub's errors into ours."""
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

    # Versions of huggingface_hub use different HTTP libraries; its own errors are subclasses of theirs.
    network_errors: tuple[type[BaseException], ...] = (OSError, *HfHubHTTPError.__bases__)
    try:
        yield
    except GatedRepoError as error:
        raise ModelNotFoundError(
            f"'{repository}' is available only to users who have accepted its licence.",
            hint="Accept it on the model's page, and set HF_TOKEN.",
        ) from error
    except RevisionNotFoundError as error:
        raise ModelNotFoundError(f"'{repository}' has no revision '{revision}'.") from error
    except RepositoryNotFoundError as error:
        raise ModelNotFoundError(
            f"'{repository}' is neither a local folder nor a model on the hub.",
            hint="Check the name; for a private model, set HF_TOKEN.",
        ) from error
    except network_errors as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise _UnreachableError(
            f"the hub did not answer about '{repository}': {reason}", hint="Check the network and try again."
        ) from error


def _look_up(reference: HubReference) -> _Snapshot:
    from huggingface_hub import HfApi

    with _hub_errors(reference.repository, reference.revision):
        info = HfApi(endpoint=_endpoint()).model_info(
            reference.repository, revision=reference.revision, files_metadata=True
        )
    return _Snapshot(str(info.sha), _wanted(reference, info.siblings or []))


def _wanted(reference: HubReference, siblings: list[Any]) -> list[_File]:
    """The files that a model is loaded from, with safetensors weights if there are any, otherwise pickles."""
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
            hint=f"Give one of its files: hf:{reference.repository}:{packed[0]}." if packed else None,
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
    """A progress bar class for huggingface_hub that draws nothing and calls `report` with the bytes so far."""
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
            f"has SHA-256 {found}, and {file.sha256} on the hub; it was deleted.",
            where=str(path),
            hint="Run the command again to fetch it again.",
        )
