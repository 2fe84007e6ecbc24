"""One process of the harness: damaged copies of the samples are read one after another, and each outcome is a line.

python -m fuzzing.loads FOLDER FIRST COUNT
"""

from __future__ import annotations

import json
import random
import resource
import shutil
import signal
import sys
import tempfile
import traceback
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from fuzzing.mutations import damage
from fuzzing.samples import SAMPLES, Sample
from germinal.checkpoints.weights_files import read_weights
from germinal.errors import GerminalError

CPU_SECONDS = 10
"""Of one load, counted by the system, so that a busy machine changes nothing. Most take a hundredth."""

MEMORY = 1 << 30
"""Bytes of one load, beyond what the libraries take."""


def main() -> None:
    folder, first, count = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    torch.set_num_threads(1)
    for sample in SAMPLES:  # libraries are imported before memory is counted
        with tempfile.TemporaryDirectory() as scratch:
            sample.use(Path(shutil.copytree(folder / sample.name, Path(scratch) / "sample")))
    resource.setrlimit(resource.RLIMIT_AS, (_taken() + MEMORY, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for number in range(first, first + count):
        print(json.dumps({"number": number}), flush=True)
        signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)  # ends the process, in a library's loop too
        print(json.dumps({"number": number, **load(folder, number)}), flush=True)


def load(samples: Path, number: int) -> dict[str, str]:
    """Damage a sample as its number says, use it, and say what came of it."""
    draw = random.Random(number)
    sample = draw.choices(SAMPLES, [each.weight for each in SAMPLES])[0]
    with tempfile.TemporaryDirectory(prefix="fuzzing-") as scratch:
        folder = Path(shutil.copytree(samples / sample.name, Path(scratch) / sample.name))
        what = [damage(draw.choice(_files(folder, sample)), draw) for _ in range(draw.choice([1, 1, 1, 2]))]
        said = {"sample": sample.name, "damage": "; ".join(what)}
        try:
            sample.use(folder)
            _compare_weights(folder)
        except GerminalError as error:
            return {**said, "outcome": "refused", "error": f"{type(error).__name__}: {error}"[:300]}
        except BaseException as error:  # a Rust panic is not an Exception
            return {**said, "outcome": "failed", "error": f"{type(error).__name__}: {error}"[:300], "trace": _trace()}
    return {**said, "outcome": "read"}


def _files(folder: Path, sample: Sample) -> list[Path]:
    files = sorted(file for file in folder.rglob("*") if file.is_file() and file.name not in (".gitignore", "lock"))
    chosen = [file for file in files if file.relative_to(folder).as_posix().startswith(sample.damaged or ("",))]
    return chosen or files or [folder / "config.json"]


def _compare_weights(folder: Path) -> None:
    """Weights that are read are those that their own library reads."""
    for file in [*folder.glob("*.safetensors"), *folder.glob("*.bin")]:
        try:
            expected = load_file(file) if file.suffix == ".safetensors" else torch.load(file, weights_only=True)
        except (OSError, SafetensorError, RuntimeError, ValueError):
            continue
        ours = read_weights(folder)
        for name in ours.keys() & expected.keys():
            wanted = expected[name].float()
            if not torch.equal(ours[name].load(torch.float32).nan_to_num(), wanted.nan_to_num()):
                raise AssertionError(f"{file.name}: {name} has other values than its own library reads")


def _trace() -> str:
    return "".join(traceback.format_exc().splitlines(keepends=True)[-8:])


def _taken() -> int:
    """Bytes of address space that the process has."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


if __name__ == "__main__":
    main()
