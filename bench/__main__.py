"""Run the benchmarks, print the table and write bench/RESULTS.md."""

from __future__ import annotations

import argparse
import os
import sys
from datetime import UTC, datetime
from importlib import import_module

from bench.harness import ROOT, THREADS, Row, Setting, environment, markdown, table

BENCHES = {
    "imports": "import germinal, germinal --help",
    "startup": "process start to first token, peak memory",
    "loading": "loading a checkpoint, time and memory",
    "embedding": "vectors of 1,000 sentences",
    "families": "a pass and greedy decoding of every family",
    "decoding": "greedy decoding at batch 1 and 8",
    "scoring": "four-shot likelihood scoring of 200 reviews",
    "lora": "LoRA tuning",
}


def main() -> int:
    """Exit code 1 when a goal is missed."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("benches", nargs="*", help=f"which ones (default all): {', '.join(BENCHES)}")
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each side")
    parser.add_argument("--only", default="", help="of `families`, the models whose name has this in it")
    parser.add_argument("--quick", action="store_true", help="one small round, only to see that all runs")
    arguments = parser.parse_args()
    unknown = set(arguments.benches) - set(BENCHES)
    if unknown:
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}; known: {', '.join(BENCHES)}")

    # Before torch is imported anywhere, here and in the processes that the benchmarks start.
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(THREADS)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    setting = Setting(rounds=arguments.rounds, quick=arguments.quick, only=arguments.only)
    rows: list[Row] = []
    for name in arguments.benches or BENCHES:
        setting.log(f"--- {name}: {BENCHES[name]}")
        rows += import_module(f"bench.{name}").measure(setting)
    _print(rows)
    if not (arguments.quick or arguments.benches or arguments.only):
        results = ROOT / "bench" / "RESULTS.md"
        results.write_text(markdown(rows, environment(), f"{datetime.now(UTC):%Y-%m-%d}"), encoding="utf-8")
        setting.log(f"Written to {results.relative_to(ROOT)}.")
    return int(any(row.met is False for row in rows) and not arguments.quick)


def _print(rows: list[Row]) -> None:
    cells = [("what", "ours", "peer", "ratio", "goal", ""), *table(rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(6)]
    for fact, value in environment().items():
        print(f"{fact}: {value}")
    print()
    for line in cells:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


if __name__ == "__main__":
    sys.exit(main())
