"""The peak memory of one step alone, and freed memory given back before the next.

Linux keeps a process's highest memory and can reset it (`5` to /proc/self/clear_refs, see proc(5)), so that each step
has a peak of its own. Elsewhere only the peak since the process started is known, and the figures say so.
"""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

_CLEAR_REFS = Path("/proc/self/clear_refs")
_STATUS = Path("/proc/self/status")

WHOLE_PROCESS = "peak since the process started, as this system cannot measure a step alone"


def give_back() -> None:
    """Give freed memory back to the system, so that it does not count for the next step."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc has it, musl does not
        if trim is not None:
            trim(0)


def reset_peak() -> str:
    """Reset the peak. Returns a note for the figures where that is not possible, else nothing."""
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
