"""Killed at any moment, a run goes on: nothing repeated, no row lost or doubled, the figures those of a quiet run."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from sqlalchemy import text
from tiny_project import TOML, review, write_rows

from germinal.ledger import Ledger
from germinal.project import Project

KILLS = 20
PROJECT_TOML = TOML.replace("rank = 2", "rank = 2\nepochs = 6")  # so that a good part of the time is tuning


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """A project that never ran."""
    folder = tmp_path_factory.mktemp("fresh") / "project"
    folder.mkdir()
    (folder / "germinal.toml").write_text(PROJECT_TOML.format(model=tiny_model), encoding="utf-8")
    write_rows(folder / "reviews.csv", [review(number) for number in range(120)])
    return folder


@pytest.fixture(scope="module")
def quiet(fresh: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """The same project, run once without a disturbance, and how long its run took."""
    folder = Path(shutil.copytree(fresh, tmp_path_factory.mktemp("quiet") / "project"))
    assert _start(folder).wait(timeout=300) == 0
    run = Ledger.open(folder / ".germinal" / "ledger.sqlite").results().run
    assert run.seconds is not None
    return folder, run.seconds


def _start(folder: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "germinal", "run", str(folder), "--quiet", "--no-report"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def _wait_for_run(process: subprocess.Popen[bytes], folder: Path, runs: int) -> None:
    """Until the process has begun its run, so that the moment of the kill is one of the run and not of imports."""
    ledger = folder / ".germinal" / "ledger.sqlite"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if ledger.exists() and _number_of_runs(ledger) > runs:
            return
        time.sleep(0.01)
    assert process.poll() == 0, process.stderr.read() if process.stderr else ""


def _number_of_runs(ledger: Path) -> int:
    import sqlite3

    connection = sqlite3.connect(f"file:{ledger}?mode=ro", uri=True)
    try:
        return int(connection.execute("SELECT count(*) FROM runs").fetchone()[0])
    except sqlite3.OperationalError:
        return 0  # not made yet
    finally:
        connection.close()


def _facts(folder: Path) -> dict[str, object]:
    """Everything that a run found, timings and memory aside."""
    ledger = Project(folder).ledger
    results = ledger.results()
    figures = {
        (trial.id, split, metric, end): getattr(figure, end)
        for trial in results.trials
        for split, metrics in trial.figures.items()
        for metric, figure in metrics.items()
        for end in ("value", "low", "high", "n")
    }
    answers = {
        (trial.id, row.row_id): (row.answer, row.text, tuple((row.output or {}).get("token_ids", ())))
        for trial in results.trials
        for row in ledger.answers(trial.id)
    }
    logprobs = {
        (trial.id, row.row_id, label): value
        for trial in results.trials
        for row in ledger.answers(trial.id)
        for label, value in ((row.output or {}).get("label_logprobs") or {}).items()
    }
    losses = {trial.id: [step["loss"] for step in ledger.history(trial.id)] for trial in results.trials}
    comparisons = {(item.first, item.second, item.role): item.p_value for item in results.comparisons}
    with ledger.engine.connect() as connection:
        kinds = connection.execute(text("SELECT kind, count(*) FROM predictions GROUP BY kind")).all()
    return {
        "answers": answers,
        "figures": figures,
        "logprobs": logprobs,
        "losses": losses,
        "comparisons": comparisons,
        "choice": results.choice,
        "adapters": {
            trial.steps["tune"]: ledger.step(trial.steps["tune"]).outputs
            for trial in results.trials
            if "tune" in trial.steps
        },
        "rows": dict(kinds),  # type: ignore[arg-type]
    }


class Nursery:
    """A process that imports everything once and then forks runs of `germinal run`, each a process to be killed."""

    SCRIPT = """
import os, sys
import germinal.project.project, germinal.project.run.runner, germinal.loading, sklearn.linear_model
from germinal.cli.main import main
for line in sys.stdin:
    pid = os.fork()
    if pid == 0:
        sys.argv = ["germinal", "run", line.strip(), "--quiet", "--no-report"]
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        main()
        os._exit(0)
    print(pid, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""

    def __init__(self) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
        command = [sys.executable, "-c", self.SCRIPT]
        self._process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def start(self, folder: Path) -> int:
        """Begin a run; its process id."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{folder}\n")
        self._process.stdin.flush()
        return self._read()

    def exit_code(self) -> int:
        """How the run ended, once it has; a signal is negative."""
        return self._read()

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _read(self) -> int:
        assert self._process.stdout is not None
        return int(self._process.stdout.readline())


@pytest.fixture
def nursery() -> Iterator[Nursery]:
    made = Nursery()
    yield made
    made.close()


def _wait_for_begin(ledger: Path, runs: int) -> None:
    """Until one more run has begun, so that the moment of the kill is one of the run."""
    deadline = time.monotonic() + 120
    while not (ledger.exists() and _number_of_runs(ledger) > runs):
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="runs are forked to be killed")
def test_killed_at_twenty_moments_and_resumed_it_is_as_if_nothing_had_been(
    fresh: Path, quiet: tuple[Path, float], tmp_path: Path, nursery: Nursery
) -> None:
    expected, draw = _facts(quiet[0]), random.Random(20)
    killed, rounds = 0, 0
    during: list[str] = []
    while killed < KILLS:
        rounds += 1
        folder = Path(shutil.copytree(fresh, tmp_path / f"round-{rounds}"))
        ledger, runs, code = folder / ".germinal" / "ledger.sqlite", 0, -1
        while code != 0:
            process = nursery.start(folder)
            _wait_for_begin(ledger, runs)
            runs += 1
            if killed < KILLS:
                time.sleep(draw.uniform(0, quiet[1] / 3))
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            code = nursery.exit_code()
            if code == -signal.SIGKILL:
                killed += Project(folder).ledger.runs()[0].status == "running"  # else it was over but for the exit
                during.append(_running_kind(folder))
            else:
                assert code == 0
        facts = _facts(folder)
        for name, tolerance in (("figures", 1e-6), ("comparisons", 1e-6), ("logprobs", 1e-4)):
            assert facts.pop(name) == pytest.approx(expected[name], abs=tolerance)
        assert facts == {name: expected[name] for name in facts}
        statuses = [run.status for run in Project(folder).ledger.runs()]
        assert statuses[0] == "finished"
        assert set(statuses[1:]) <= {"interrupted", "finished"}
    assert "tune" in during, during


def _running_kind(folder: Path) -> str:
    with Project(folder).ledger.engine.connect() as connection:
        return str(connection.execute(text("SELECT kind FROM steps WHERE status = 'running'")).scalar())


def test_a_run_killed_in_the_middle_of_a_step_computes_no_stored_row_again(fresh: Path, tmp_path: Path) -> None:
    from germinal.project.steps import rows

    folder = Path(shutil.copytree(fresh, tmp_path / "project"))
    script = """
import os, signal, sys
from germinal.ledger import Ledger
from germinal.project import Project
from germinal.project.steps import rows
rows.BATCH = 8
store, batches = Ledger.store_predictions, []
def stop_after_two(self, predictions, run_id):
    kept = list(predictions)
    store(self, kept, run_id)
    batches.extend(kept if kept[0].kind != "answer" else [])
    if len(batches) >= 32:
        os.kill(os.getpid(), signal.SIGKILL)
Ledger.store_predictions = stop_after_two
Project(sys.argv[1]).run()
"""
    assert subprocess.run([sys.executable, "-c", script, str(folder)], check=False).returncode == -signal.SIGKILL
    assert rows.BATCH == 32
    summary = Project(folder).run()
    # Two batches of eight rows, generated and scored, were stored by the killed run; zero-shot dev has 24.
    assert summary.rows_reused >= 16
    zero_shot = next(
        trial for trial in Project(folder).ledger.results().trials if trial.shot_seed is None and "zero" in trial.id
    )
    assert len(Project(folder).ledger.answers(zero_shot.id)) == 24


def test_an_interrupt_is_recorded_and_the_next_run_goes_on(fresh: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(fresh, tmp_path / "project"))
    project = Project(folder)

    def interrupt(progress: object) -> None:
        if getattr(progress, "unit", "") == "steps":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        project.run(reporter=interrupt)
    assert project.ledger.runs()[0].status == "interrupted"
    summary = project.run()
    assert summary.steps_run["tune"] == 1
    assert summary.steps_run["data"] == 0
    assert summary.rows_predicted < 200
    assert project.ledger.runs()[0].status == "finished"


def test_a_full_disk_stops_the_run_and_loses_nothing(
    fresh: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno

    from germinal.errors import StorageError

    folder = Path(shutil.copytree(fresh, tmp_path / "project"))
    project = Project(folder)
    fsync, written = os.fsync, []

    def full(handle: int) -> None:
        written.append(handle)
        if len(written) > 30:
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(handle)

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(StorageError, match="disk is full"):
            project.run()
    assert project.ledger.runs()[0].status == "failed"
    assert not list(folder.rglob("*.tmp"))
    done = project.run()
    assert done.steps_run["data"] == 0
    assert project.ledger.results().choice is not None


def test_a_second_run_at_once_is_refused_until_the_first_is_killed(fresh: Path, tmp_path: Path) -> None:
    from germinal.errors import ProjectBusyError

    folder = Path(shutil.copytree(fresh, tmp_path / "project"))
    first = _start(folder)
    _wait_for_run(first, folder, 0)
    with pytest.raises(ProjectBusyError, match="another process is running this project"):
        Project(folder).run()
    second = _start(folder)
    assert second.wait(timeout=120) == ProjectBusyError.exit_code
    first.kill()
    first.wait()
    assert Project(folder).run(limit=4).steps_run["choose"] == 1
