"""Peak memory of one step alone, and memory handed back before the next.

Linux keeps the high-water mark of a process and lets it be reset (`5` to /proc/self/clear_refs, see proc(5)), so that a
step's peak is its own. Elsewhere only the peak since the process started is known, and the figures say so.
"""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

_CLEAR_REFS = Path("/proc/self/clear_refs")
_STATUS = Path("/proc/self/status")

WHOLE_PROCESS = "peak since the process started, as this system cannot measure a step alone"


def give_back() -> None:
    """Hand freed memory back to the system, so that it does not count for what comes next."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc has it, musl does not
        if trim is not None:
            trim(0)


def reset_peak() -> str:
    """Start measuring anew; a note that says what the peak will mean where that is not possible."""
    give_back()
    try:
        _CLEAR_REFS.write_text("5")
    except OSError:
        return WHOLE_PROCESS
    return ""


def peak_bytes() -> int | None:
    """The process's highest resident memory since `reset_peak`, or since its start."""
    try:
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    import psutil

    info = psutil.Process().memory_info()
    return int(getattr(info, "peak_wset", 0) or _unix_peak() or info.rss)


def _unix_peak() -> int:
    if sys.platform == "win32":
        return 0
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
