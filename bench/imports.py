"""How long a user waits for nothing: `import germinal` and `germinal --help`."""

from __future__ import annotations

import subprocess
import sys

from bench.harness import Row, Setting, timed

_IMPORT = "import time; start = time.perf_counter(); import germinal; print(time.perf_counter() - start)"


def measure(setting: Setting) -> list[Row]:
    """Seconds of the import in a fresh process, and of the whole process that prints the help."""

    def imported(_: int) -> float:
        return float(subprocess.run([sys.executable, "-c", _IMPORT], check=True, capture_output=True, text=True).stdout)

    def helped(_: int) -> float:
        command = [sys.executable, "-m", "germinal", "--help"]
        return timed(lambda: subprocess.run(command, check=True, capture_output=True))

    imported(0), helped(0)
    imports, helps = setting.in_turn(imported, helped)
    return [
        Row("import germinal", "s", imports, higher_is_better=False, goal=0.2),
        Row("germinal --help, whole process", "s", helps, higher_is_better=False, goal=0.4),
    ]
