"""Doing one step: recorded as started, measured alone, and at the very end recorded as done."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from germinal.errors import GerminalError
from germinal.ledger import Environment, Ledger, StepRecord
from germinal.progress import Progress, Reporter
from germinal.project.steps import memory
from germinal.project.steps.base import FILES, RowCount, Step, StepContext
from germinal.project.steps.keys import Key, RecipeKeys
from germinal.project.steps.model_cache import ModelCache
from germinal.storage import folder_digest

_SECONDS_BETWEEN_NOTES = 2.0


@dataclass(frozen=True)
class Executor:
    """Does the steps of one run.

    Attributes:
        folder: The folder of germinal.toml.
        artifacts: Where steps keep their files.
        environment: Recorded with every step.
        models: The loaded model.
        recipes: The steps' recipe keys.
        rows: Counts the rows that steps compute and reuse.
    """

    ledger: Ledger
    run_id: int
    folder: Path
    artifacts: Path
    environment: Environment
    models: ModelCache
    recipes: RecipeKeys
    rows: RowCount

    def execute(self, step: Step, key: Key, inputs: Mapping[str, StepRecord], reporter: Reporter) -> StepRecord:
        """Do a step.

        Args:
            key: Its resolved key.
            inputs: The finished steps that it depends on.
            reporter: Receives its progress.

        Raises:
            GerminalError: what is wrong with its inputs, a model or the disk. The step is recorded as failed, and the
                next run tries it again.
        """
        artifact = self.artifacts / f"{step.kind}-{key.digest[:16]}"
        before = self.ledger.begin_step(self._starting(step, key, artifact), self.run_id)
        note = memory.reset_peak()
        clock = _Clock(self.ledger, key.digest, before, reporter)
        try:
            result = step.run(self._context(key, inputs, artifact, clock.report))
        except GerminalError as error:
            self.ledger.fail_step(key.digest, str(error))
            raise
        values = dict(result.values)
        if step.keeps_files:
            values[FILES] = folder_digest(artifact)
        own = result.seconds is None  # else its figures are those of its rows, whenever they were computed
        return self.ledger.finish_step(
            key.digest,
            outputs=result.outputs,
            values=values,
            seconds=clock.seconds() if result.seconds is None else result.seconds,
            peak_memory_bytes=memory.peak_bytes() if own else result.peak_memory_bytes,
            memory_note=note,
            complete=result.complete,
        )

    def _context(self, key: Key, inputs: Mapping[str, StepRecord], artifact: Path, reporter: Reporter) -> StepContext:
        return StepContext(
            key=key.digest,
            inputs=inputs,
            artifact=artifact,
            folder=self.folder,
            ledger=self.ledger,
            run_id=self.run_id,
            models=self.models,
            rows=self.rows,
            report=reporter,
            peak_memory=memory.peak_bytes,
        )

    def _starting(self, step: Step, key: Key, artifact: Path) -> StepRecord:
        return StepRecord(
            key=key.digest,
            recipe_key=self.recipes.key(step),
            kind=step.kind,
            name=step.name,
            status="running",
            parts=key.parts,
            recipe_parts=self.recipes.parts(step),
            outputs={},
            values={},
            artifact=artifact if step.keeps_files else None,
            seconds=0.0,
            peak_memory_bytes=None,
            memory_note="",
            environment=self.environment,
            started_at=datetime.now(UTC),
            finished_at=None,
            error=None,
        )


class _Clock:
    """A step's time, which is noted in the ledger while the step runs: a kill loses little of it."""

    def __init__(self, ledger: Ledger, key: str, before: float, reporter: Reporter) -> None:
        self._ledger, self._key, self._reporter = ledger, key, reporter
        self._start = time.perf_counter() - before
        self._noted = time.perf_counter()

    def seconds(self) -> float:
        return time.perf_counter() - self._start

    def report(self, progress: Progress) -> None:
        """Pass a report on, and note the time every few seconds."""
        self._reporter(progress)
        now = time.perf_counter()
        if now - self._noted > _SECONDS_BETWEEN_NOTES:
            self._ledger.touch_step(self._key, self.seconds())
            self._noted = now
