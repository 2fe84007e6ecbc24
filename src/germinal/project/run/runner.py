"""The runner: does the steps that the ledger lacks, in order, and records the outcome.

It can be killed at any moment, and the next run resumes it: a step is recorded as done at its very end, rows are stored
batch by batch while it runs, and tuning keeps checkpoints in its folder.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from germinal.errors import GerminalError
from germinal.ledger import EstimateRecord, Ledger, StepRecord
from germinal.progress import Reporter, silent
from germinal.project.file.config import Limits
from germinal.project.plan.estimates import estimate_trials
from germinal.project.plan.resolver import Resolver
from germinal.project.plan.step_graph import StepGraph
from germinal.project.plan.trials import Trial
from germinal.project.run.executor import Executor
from germinal.project.run.lock import project_lock
from germinal.project.run.outcome import outcome, trial_rows
from germinal.project.run.progress import RunProgress
from germinal.project.steps.base import RowCount, Step
from germinal.project.steps.environment import environment
from germinal.project.steps.model_cache import ModelCache


@dataclass(frozen=True)
class RunSummary:
    """What a run did.

    Attributes:
        steps_run: By kind, how many steps ran.
        steps_cached: By kind, how many the ledger had.
        rows_predicted: Rows whose output was computed.
        rows_reused: Rows whose output the ledger had, in steps that ran.
        seconds: How long the run took.
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
        graph: The steps.
        ledger: Where everything is recorded.
        folder: The folder of germinal.toml.
        state: The folder with ledger, artifacts and lock.
        limit: At most so many rows of dev and of test are used; recorded.
        overrides: Changes of the project file for this run; recorded.
        reporter: Receives the progress of the run and of its steps.
    """

    graph: StepGraph
    ledger: Ledger
    folder: Path
    state: Path
    limit: int | None = None
    overrides: Sequence[str] = ()
    reporter: Reporter = silent
    _ran: Counter[str] = field(default_factory=Counter)
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
        with project_lock(self.state), self._begun():
            self._estimate()
            self._do_dev()
            choice = self._record(self.graph.choose)
            self._do_test(self.graph.tested_trials(choice))
            clocked = self._do_clock(self.graph.winner(choice))
            self._write_down(choice, clocked)
        seconds = time.perf_counter() - started
        return RunSummary(self._run_id, self._ran, self._cached, self._rows.predicted, self._rows.reused, seconds)

    # ---- steps ---------------------------------------------------------------------------------------------------

    def _do_dev(self) -> None:
        """Every trial on dev, and the choice among them."""
        steps = self._resolver.in_order([self.graph.choose])
        self._progress = RunProgress(self.reporter, steps)
        for step in steps:
            self._do(step)
            if step.kind == "data":
                self._progress.began(self._record(step))
            if step.kind in ("data", "model"):
                self._estimate()

    def _do_test(self, tested: Sequence[Trial]) -> None:
        """The winner and the baselines on test. It counts as a look at test when anything was measured there anew."""
        measures = {trial.id: self.graph.steps(trial, "test")["measure/test"] for trial in tested}
        steps = self._resolver.in_order(list(measures.values()))
        new = [step for step in steps if self._resolver.recipes.key(step) not in self._records]
        self._progress = RunProgress(self.reporter, new)
        self._progress.began(self._record(self.graph.data))
        measured_before = self._ran["measure"]
        for step in new:
            self._do(step)
        if self._ran["measure"] > measured_before:
            for trial_id, measure in measures.items():
                self.ledger.look_at_test(self._run_id, trial_id, self._record(measure).key)

    def _do_clock(self, winner: Trial) -> StepRecord | None:
        """How long the winner's answers take, where [scope] has limits."""
        if self.graph.config.scope.limits == Limits():
            return None
        clock = self.graph.clock(winner)
        self._do(clock)
        return self._record(clock)

    def _do(self, step: Step) -> None:
        """Take a step's result from the ledger, or do it."""
        inputs = {name: self._record(dependency.step) for name, dependency in step.dependencies().items()}
        resolved = self._resolver.resolve(step, inputs, fetch=True)
        assert resolved is not None, "with fetch=True every source is found or raises"
        recipe = self._resolver.recipes.key(step)
        if resolved.record is not None:
            self._records[recipe] = resolved.record
            self._cached[step.kind] += 1
            self._progress.skipped(step)
            return
        reporter = partial(self._progress.during, step)
        self._records[recipe] = self._executor.execute(step, resolved.key, inputs, reporter)
        self._ran[step.kind] += 1
        self._progress.finished(step)

    def _estimate(self) -> None:
        """Estimate trials before they run: at the start those whose model is here, the others once it is fetched."""
        known = estimate_trials(self.graph, self._resolver, self.ledger, self.folder)
        self._estimates = {**known, **self._estimates}

    def _record(self, step: Step) -> StepRecord:
        return self._records[self._resolver.recipes.key(step)]

    # ---- records -------------------------------------------------------------------------------------------------

    @contextmanager
    def _begun(self) -> Iterator[None]:
        """Record in the ledger that the run started and, however it ends, that it ended and how far its trials got."""
        here = environment(self.folder)
        config = self.graph.config.model_dump(mode="json")
        self._run_id = self.ledger.begin_run(config, self.overrides, self.limit, here)
        models, artifacts = ModelCache(self.folder, self.reporter), self.state / "artifacts"
        self._resolver = Resolver(self.ledger, self.folder, artifacts)
        self._executor = Executor(
            self.ledger, self._run_id, self.folder, artifacts, here, models, self._resolver.recipes, self._rows
        )
        try:
            yield
        except BaseException as error:
            with suppress(GerminalError):  # on a full disk not even this can be written
                self._record_trials(())
                self.ledger.end_run(self._run_id, "failed" if isinstance(error, Exception) else "interrupted")
            raise
        finally:
            models.clear()

    def _write_down(self, choice: StepRecord, clocked: StepRecord | None) -> None:
        self._record_trials(self.graph.tested_trials(choice))
        measured = self._record(self.graph.steps(self.graph.winner(choice), "test")["measure/test"])
        found = outcome(self.graph, self.ledger, self._record(self.graph.data), choice, measured, clocked)
        self.ledger.end_run(self._run_id, "finished", found)

    def _record_trials(self, tested: Sequence[Trial]) -> None:
        known = {recipe: record.key for recipe, record in self._records.items()}
        rows = trial_rows(self.graph, tested, known, self._resolver.recipes, self._estimates)
        self.ledger.record_trials(self._run_id, rows)
