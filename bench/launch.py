"""Run a command and tell when its first byte of output came and how much memory it took at most, as JSON.

A process of its own because Linux counts a parent's memory into a child's peak: this one has nothing in it.
"""

import json
import os
import subprocess
import sys
import time


def main() -> None:
    start = time.perf_counter()
    with subprocess.Popen(sys.argv[1:], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        first = child.stdout.read(1)
        seconds = time.perf_counter() - start
        rest = child.stdout.read()
        complaint = child.stderr.read()
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode or not first:
        sys.exit(f"{sys.argv[1:]} failed with {child.returncode}: {complaint.decode(errors='replace')}")
    kilobyte = 1 if sys.platform == "darwin" else 1024
    text = (first + rest).decode(errors="replace")
    print(json.dumps({"first_token": seconds, "peak_bytes": usage.ru_maxrss * kilobyte, "text": text}))


if __name__ == "__main__":
    main()
