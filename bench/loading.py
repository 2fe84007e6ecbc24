"""Loading a float32 checkpoint: its time beside that of reading its files once, and the memory that it takes.

Weights are memory-mapped, so that loading alone reads none of them: here every weight is read once after it, as the
first pass through the network would. Each measurement is a process of its own whose files the system has in memory.
What the process took before, with torch and germinal imported, is not counted.
"""

from __future__ import annotations

import json
import subprocess
import sys

from bench.harness import Row, Setting, model_folder

_MEASURED = """
import json, resource, sys, time
from pathlib import Path

def peak():
    status = Path("/proc/self/status")  # on Linux getrusage counts the memory of the process that started this one too
    if status.exists():
        return 1024 * next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)

{imports}
folder = Path(sys.argv[1])
before, start = peak(), time.perf_counter()
{work}
seconds = time.perf_counter() - start
print(json.dumps({{"seconds": seconds, "peak_bytes": peak() - before, "bytes": size}}))
"""
_OURS = _MEASURED.format(
    imports="import torch, germinal, germinal.loading",
    work="""
network = germinal.load(folder, device="cpu").network
sums = [float(weight.sum()) for weight in network.parameters()]
size = sum(weight.nbytes for weight in network.parameters())
""",
)
_READ = _MEASURED.format(
    imports="",
    work="""
contents = [file.read_bytes() for file in folder.iterdir() if file.is_file()]
size = sum(map(len, contents))
""",
)


def measure(setting: Setting) -> list[Row]:
    """Seconds against reading the files, and the peak of memory against the weights' own size."""
    _run(_OURS), _run(_READ)  # the files are in memory then
    memory: list[float] = []

    def ours(_: int) -> float:
        result = _run(_OURS)
        memory.append(result["peak_bytes"] / result["bytes"])
        return result["seconds"]

    seconds = setting.in_turn(ours, lambda _: _run(_READ)["seconds"])
    what = "loading SmolLM2-135M, every weight read"
    return [
        Row(what, "s", *seconds, "reading its files", higher_is_better=False, goal=1.2),
        Row("peak memory of that over the weights' size", "x", memory, higher_is_better=False, goal=1.1),
    ]


def _run(program: str) -> dict[str, float]:
    command = [sys.executable, "-c", program, str(model_folder())]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    if finished.returncode:
        raise RuntimeError(finished.stderr)
    result: dict[str, float] = json.loads(finished.stdout)
    return result
