"""Runs loads in processes of their own, and starts a new one behind a load that ended its process."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SILENT_SECONDS = 120
"""A load that uses no CPU and says nothing for so long waits for something that never comes."""


@dataclass
class Outcome:
    """What came of a range of loads.

    Attributes:
        counts: "read", "refused" and "failed".
        failures: Those that ended in something else than an answer or a GerminalError.
    """

    counts: Counter[str] = field(default_factory=Counter)
    failures: list[dict[str, Any]] = field(default_factory=list)

    def __str__(self) -> str:
        shown = "\n\n".join("\n".join(f"{key}: {value}" for key, value in each.items()) for each in self.failures[:20])
        return f"{dict(self.counts)}\n{shown}"


def run(samples: Path, first: int, count: int) -> Outcome:
    """Do the loads `first` to `first + count - 1`."""
    outcome, number, end = Outcome(), first, first + count
    while number < end:
        number = _run_process(samples, number, end - number, outcome)
    return outcome


def _run_process(samples: Path, first: int, count: int, outcome: Outcome) -> int:
    """Do loads until the process ends, and return the number of the next one."""
    command = [sys.executable, "-m", "fuzzing.loads", str(samples), str(first), str(count)]
    lines: queue.Queue[str | None] = queue.Queue()
    begun, done = None, first
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1]
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        errors: list[str] = []
        readers = [
            threading.Thread(target=lambda stream=process.stdout: [*map(lines.put, stream), lines.put(None)]),
            threading.Thread(target=lambda stream=process.stderr: errors.extend(stream)),
        ]
        for reader in readers:
            reader.start()
        ending = "ended its process"
        while True:
            try:
                line = lines.get(timeout=SILENT_SECONDS)
            except queue.Empty:
                process.kill()
                ending = f"said nothing for {SILENT_SECONDS} s"
                continue
            if line is None:
                break
            said = json.loads(line)
            if "outcome" not in said:
                begun = said["number"]
                continue
            begun, done = None, said["number"] + 1
            outcome.counts[said["outcome"]] += 1
            if said["outcome"] == "failed":
                outcome.failures.append(said)
        for reader in readers:
            reader.join()
    if done == first and begun is None:
        raise RuntimeError(f"the process did nothing: {''.join(errors)[-3000:]}")
    if begun is None:
        return done
    outcome.counts["failed"] += 1
    last = "".join(errors)[-500:]
    outcome.failures.append({"number": begun, "outcome": f"{ending} ({process.returncode})", "error": last})
    return begun + 1
