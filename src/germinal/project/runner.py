"""The runner: does the steps that the ledger lacks, in order, measures each alone, and writes down what came of it.

It can be killed at any moment. A step is done when the ledger says so, which is the last thing that happens to it; rows
are stored batch by batch while it runs; tuning keeps checkpoints in its folder. The next run goes on from there.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from germinal.errors import GerminalError, ProjectBusyError
from germinal.ledger import Environment, EstimateRecord, Ledger, StepRecord
from germinal.progress import Progress, Reporter, silent
from germinal.project import memory
from germinal.project.config import Limits
from germinal.project.environment import environment
from germinal.project.models import ModelShelf
from germinal.project.outcome import outcome
from germinal.project.plan import Resolved, Resolver, in_order
from germinal.project.run_progress import RunProgress
from germinal.project.steps.base import RowCount, Step, StepContext, StepResult
from germinal.project.trials import Trial
from germinal.project.wiring import Wiring

_SECONDS_BETWEEN_NOTES = 2.0


@dataclass(frozen=True)
class RunSummary:
    """What a run did.

    Attributes:
        steps_run: By kind, how many steps ran.
        steps_cached: By kind, how many the ledger had.
        rows_predicted: Rows whose output was computed.
        rows_reused: Rows whose output the ledger had, in steps that ran.
    """

    run_id: int
    steps_run: Counter[str]
    steps_cached: Counter[str]
    rows_predicted: int
    rows_reused: int
    seconds: float

    def __str__(self) -> str:
        ran, cached = self.steps_run.total(), self.steps_cached.total()
        return (
            f"Run {self.run_id}: {ran} steps run, {cached} cached; {self.rows_predicted:,} rows predicted, "
            f"{self.rows_reused:,} reused; {self.seconds:.0f} s."
        )


@dataclass
class Runner:
    """One run of a project.

    Args:
        wiring: The steps.
        ledger: Where everything is remembered.
        folder: The folder of germinal.toml.
        state: The folder with ledger, artifacts and lock.
    """

    wiring: Wiring
    ledger: Ledger
    folder: Path
    state: Path
    limit: int | None = None
    overrides: Sequence[str] = ()
    reporter: Reporter = silent
    _run: Counter[str] = field(default_factory=Counter)
    _cached: Counter[str] = field(default_factory=Counter)
    _rows: RowCount = field(default_factory=RowCount)
    _records: dict[str, StepRecord] = field(default_factory=dict)
    _estimates: dict[str, EstimateRecord] = field(default_factory=dict)

    def run(self) -> RunSummary:
        """Run the project to its end.

        Raises:
            ProjectBusyError: another process is running it.
            GerminalError: what is wrong with the file, the data, a model or the disk.
        """
        started = time.perf_counter()
        with project_lock(self.state):
            self._environment: Environment = environment(self.folder)
            self._models = ModelShelf(self.folder, self.reporter)
            self._resolver = Resolver(self.ledger, self.folder, self.artifacts)
            config = self.wiring.config.model_dump(mode="json")
            self._run_id = self.ledger.begin_run(config, self.overrides, self.limit, self._environment)
            with self._recorded():
                self._foretell()
                self._do_all(in_order([self.wiring.choose], self._resolver.recipes.key))
                tested = self.wiring.tested_trials(self._record(self.wiring.choose))
                self._do_test(tested)
                self.ledger.record_trials(self._run_id, self._trials(tested))
                self.ledger.end_run(self._run_id, "finished", self._outcome())
        seconds = time.perf_counter() - started
        return RunSummary(self._run_id, self._run, self._cached, self._rows.predicted, self._rows.reused, seconds)

    @property
    def artifacts(self) -> Path:
        """Where steps keep their files."""
        return self.state / "artifacts"

    # ---- steps ---------------------------------------------------------------------------------------------------

    def _do_all(self, steps: list[Step]) -> None:
        self._progress = RunProgress(self.reporter, steps)
        for step in steps:
            self._do(step)
            if step.kind == "data":
                self._progress.began(self._record(step))

    def _do_test(self, tested: Sequence[Trial]) -> None:
        """Measure on test, and count the look if anything is new there."""
        measures = {trial.id: self.wiring.steps(trial, "test")["measure/test"] for trial in tested}
        known = set(self._records)
        steps = in_order(list(measures.values()), self._resolver.recipes.key)
        new = [step for step in steps if self._resolver.recipes.key(step) not in known]
        self._progress = RunProgress(self.reporter, new)
        self._progress.began(self._record(self.wiring.data))
        before = self._run.copy()
        for step in new:
            self._do(step)
        for trial_id, measure in measures.items():
            if self._run["measure"] > before["measure"]:
                self.ledger.look_at_test(self._run_id, trial_id, self._record(measure).key)

    def _do(self, step: Step) -> None:
        """Take a step's result from the ledger, or run it."""
        recipe = self._resolver.recipes.key(step)
        if recipe in self._records:
            return
        inputs = {name: self._record(dependency.step) for name, dependency in step.dependencies().items()}
        resolved = self._resolver.resolve(step, inputs, fetch=True)
        assert resolved is not None, "with fetch=True every source is found or raises"
        if resolved.record is not None:
            self._cached[step.kind] += 1
            self._records[recipe] = resolved.record
            self._progress.skipped(step)
            return
        self._records[recipe] = self._execute(step, resolved, inputs)
        self._run[step.kind] += 1
        self._progress.finished(step)
        if step.kind in ("data", "model"):
            self._foretell()

    def _foretell(self) -> None:
        """Estimate what can be estimated before it is measured: a model that was just fetched, its trials."""
        from germinal.project.estimates import estimate_trials

        known = estimate_trials(self.wiring, self._resolver, self.ledger, self.folder)
        self._estimates = {**known, **self._estimates}

    def _execute(self, step: Step, resolved: Resolved, inputs: Mapping[str, StepRecord]) -> StepRecord:
        key = resolved.key.digest
        artifact = self.artifacts / f"{step.kind}-{key[:16]}"
        before = self.ledger.begin_step(self._starting(step, resolved, artifact), self._run_id)
        note = memory.reset_peak()
        clock = _Clock(self.ledger, key, before, partial(self._progress.during, step))
        context = StepContext(
            key=key,
            inputs=inputs,
            artifact=artifact,
            folder=self.folder,
            ledger=self.ledger,
            run_id=self._run_id,
            models=self._models,
            rows=self._rows,
            report=clock.report,
            peak_memory=memory.peak_bytes,
        )
        try:
            result = step.run(context)
        except GerminalError as error:
            self.ledger.fail_step(key, str(error))
            raise
        return self._finish(key, result, clock.seconds(), note)

    def _finish(self, key: str, result: StepResult, seconds: float, note: str) -> StepRecord:
        return self.ledger.finish_step(
            key,
            outputs=result.outputs,
            values=result.values,
            seconds=seconds if result.seconds is None else result.seconds,
            peak_memory_bytes=memory.peak_bytes() if result.seconds is None else result.peak_memory_bytes,
            memory_note=note,
            complete=result.complete,
        )

    def _starting(self, step: Step, resolved: Resolved, artifact: Path) -> StepRecord:
        return StepRecord(
            key=resolved.key.digest,
            recipe_key=self._resolver.recipes.key(step),
            kind=step.kind,
            name=step.name,
            status="running",
            parts=resolved.key.parts,
            recipe_parts=self._resolver.recipes.parts(step),
            outputs={},
            values={},
            artifact=artifact if step.keeps_files else None,
            seconds=0.0,
            peak_memory_bytes=None,
            memory_note="",
            environment=self._environment,
            started_at=datetime.now(UTC),
            finished_at=None,
            error=None,
        )

    def _record(self, step: Step) -> StepRecord:
        return self._records[self._resolver.recipes.key(step)]

    # ---- what is written down ------------------------------------------------------------------------------------

    @contextmanager
    def _recorded(self) -> Iterator[None]:
        """However it ends, the ledger says so and knows the trials as far as they got."""
        try:
            yield
        except BaseException as error:
            self.ledger.record_trials(self._run_id, self._trials(()))
            self.ledger.end_run(self._run_id, "failed" if isinstance(error, Exception) else "interrupted")
            raise
        finally:
            self._models.clear()

    def _trials(self, tested: Sequence[Trial]) -> list[dict[str, Any]]:
        """The trials as the ledger keeps them, with the steps that are finished."""
        replicate = {trial.id: place for item in self.wiring.candidates for place, trial in enumerate(item.trials)}
        rows = []
        for position, trial in enumerate(self.wiring.trials):
            steps = self.wiring.steps(trial, "dev") | (self.wiring.steps(trial, "test") if trial in tested else {})
            recipes = {role: self._resolver.recipes.key(step) for role, step in steps.items()}
            estimate = self._estimates.get(trial.id)
            rows.append(
                {
                    "trial_id": trial.id,
                    "candidate_id": trial.candidate,
                    "position": position,
                    "replicate": replicate[trial.id],
                    "spec": trial.spec(),
                    "steps": {role: self._records[key].key for role, key in recipes.items() if key in self._records},
                    "estimate": asdict(estimate) if estimate else None,
                }
            )
        return rows

    def _outcome(self) -> dict[str, Any]:
        data, choose = self._record(self.wiring.data), self._record(self.wiring.choose)
        winner = self.wiring.winner(choose)
        measured = self._record(self.wiring.steps(winner, "test")["measure/test"])
        clocked: StepRecord | None = None
        if self.wiring.config.scope.limits != Limits():
            clock = self.wiring.clock(winner)
            self._do(clock)
            clocked = self._record(clock)
        return outcome(self.wiring, self.ledger, data, choose, measured, clocked)


class _Clock:
    """A step's time, kept in the ledger while it runs so that a kill loses little of it."""

    def __init__(self, ledger: Ledger, key: str, before: float, reporter: Reporter) -> None:
        self._ledger, self._key, self._reporter = ledger, key, reporter
        self._start = time.perf_counter() - before
        self._noted = time.perf_counter()

    def seconds(self) -> float:
        return time.perf_counter() - self._start

    def report(self, progress: Progress) -> None:
        """Pass a report on, and note the time now and then."""
        self._reporter(progress)
        now = time.perf_counter()
        if now - self._noted > _SECONDS_BETWEEN_NOTES:
            self._ledger.touch_step(self._key, self.seconds())
            self._noted = now


@contextmanager
def project_lock(state: Path) -> Iterator[None]:
    """Hold a project alone.

    Raises:
        ProjectBusyError: another process holds it.
    """
    lock = FileLock(state / "lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise ProjectBusyError(
            "another process is running this project.", where=str(state), hint="Wait for it, or stop it."
        ) from error
    try:
        yield
    finally:
        lock.release()
