"""Where a run takes place: recorded with every step, never a part of its key."""

from __future__ import annotations

import os
import platform
import subprocess
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from germinal.ledger.records import Environment
from germinal.version import __version__

_RECORDED = ("torch", "numpy", "tokenizers", "safetensors", "gguf", "scikit-learn", "scipy", "pydantic")


def environment(folder: Path) -> Environment:
    """This machine, these versions, and the git commit of the project's folder."""
    commit, dirty = _git(folder)
    return Environment(
        germinal=__version__,
        python=platform.python_version(),
        platform=platform.platform(),
        device=device(),
        git_commit=commit,
        git_dirty=dirty,
        versions=versions(_RECORDED),
    )


def versions(packages: tuple[str, ...]) -> dict[str, str]:
    """The versions of packages, as far as they are installed."""
    found: dict[str, str] = {}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


@lru_cache(maxsize=1)
def device() -> str:
    """The device that computes here: a GPU's name, or the CPU's with cores and threads."""
    import torch

    if torch.cuda.is_available():
        return f"cuda: {torch.cuda.get_device_name()}"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"cpu: {_cpu_name()}, {cores} cores, {torch.get_num_threads()} threads"


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _git(folder: Path) -> tuple[str | None, bool]:
    try:
        commit = _git_output(folder, "rev-parse", "HEAD")
        return commit, bool(_git_output(folder, "status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.SubprocessError):
        return None, False


def _git_output(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
