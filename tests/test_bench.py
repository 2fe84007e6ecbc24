"""The benchmarks' own arithmetic: ratios, goals, turns, and the table that is published."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench import harness
from bench.harness import Row, Setting, markdown, table

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize(
    ("higher_is_better", "goal", "met"),
    [(True, 2.0, True), (True, 2.1, False), (False, 2.0, True), (False, 1.9, False), (True, None, None)],
)
def test_a_goal_bounds_the_ratio_of_the_medians(higher_is_better: bool, goal: float | None, met: bool | None) -> None:
    row = Row("x", "s", [4.0, 6.0, 50.0], [3.0, 1.0, 9.0], "peer", higher_is_better=higher_is_better, goal=goal)
    assert row.figure == 2.0
    assert row.met is met


def test_a_row_without_a_peer_has_its_own_median() -> None:
    row = Row("import", "s", [0.1, 0.3, 0.2], higher_is_better=False, goal=0.2)
    assert (row.figure, row.met) == (0.2, True)


def test_sides_take_turns_and_the_one_that_goes_first_changes() -> None:
    order: list[str] = []

    def side(name: str, result: float) -> float:
        order.append(name)
        return result

    ours, peer = Setting(rounds=3).in_turn(lambda number: side("a", number), lambda number: side("b", 10 + number))
    assert order == ["a", "b", "b", "a", "a", "b"]
    assert (ours, peer) == ([0, 1, 2], [10, 11, 12])


def test_the_published_table_says_which_goals_were_missed() -> None:
    rows = [
        Row("decoding", "tok/s", [10.0, 12.0], [20.0], "transformers", goal=1.0, note="same tokens"),
        Row("import", "s", [0.1], higher_is_better=False, goal=0.2),
    ]
    text = markdown(rows, {"device": "a machine"}, "2026-01-01")
    assert "| decoding (same tokens) | 11 tok/s (10-12) | transformers: 20 tok/s | 0.55 | ≥ 1 | MISSED |" in text
    assert "| import | 0.1 s |  |  | ≤ 0.2 s | met |" in text
    assert "- device: a machine" in text
    assert len({len(cells) for cells in table(rows)}) == 1


def test_the_launcher_tells_first_output_and_peak_memory() -> None:
    program = "import time; block = b'x' * 100_000_000; print('a', flush=True); time.sleep(0.3); print('b')"
    command = [sys.executable, str(ROOT / "bench" / "launch.py"), sys.executable, "-c", program]
    result = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert result["text"] == "a\nb\n"
    assert 100e6 < result["peak_bytes"] < 200e6
    failing = subprocess.run([*command[:3], "-c", "raise SystemExit('broken')"], capture_output=True, text=True)
    assert failing.returncode == 1
    assert "broken" in failing.stderr


def test_the_environment_names_device_and_versions() -> None:
    facts = harness.environment()
    assert f"{harness.THREADS} threads used" in facts["device"]
    assert facts["torch"] != "not installed"
