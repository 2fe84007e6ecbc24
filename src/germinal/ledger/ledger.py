"""`Ledger`: the only access to the database, for the runner that writes and for everything that reads.

Every method is one short transaction, so that a reader never waits for a run and a killed writer leaves no partial
write.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any, Self, TypeVar

from sqlalchemy import Engine, Table, delete, func, select, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker

from germinal.errors import GerminalError, LedgerError
from germinal.ledger import results
from germinal.ledger.database import insert_new, open_database
from germinal.ledger.reading import open_to_read
from germinal.ledger.records import (
    AnswerRecord,
    Environment,
    Figure,
    Prediction,
    PredictionLink,
    PromptRecord,
    Results,
    RunRecord,
    StepRecord,
)
from germinal.ledger.shapes import check_prediction, checked
from germinal.ledger.tables import (
    Answer,
    Example,
    Measurement,
    PredictionRow,
    Run,
    RunTrial,
    Step,
    StepPrediction,
    TestLook,
)

_Item = TypeVar("_Item")
_KEYS_PER_QUERY = 500  # databases limit the number of parameters of one statement


class Ledger:
    """The record of a project's runs; made by `open` or `read`.

    Raises (all methods that read):
        LedgerError: it is damaged: what a row holds is not what a run writes.
    """

    def __init__(self, location: str | Path, engine: Engine) -> None:
        self.location = str(location)
        self.engine = engine
        self._session = sessionmaker(self.engine, expire_on_commit=False)

    @classmethod
    def open(cls, location: str | Path) -> Self:
        """Open a ledger to write in it, or create one; an older schema is migrated.

        Args:
            location: A file (SQLite) or a database URL.

        Raises:
            LedgerError: it was written by a newer version of germinal, or is not a ledger.
            StorageError: the disk is full or the file cannot be written.
        """
        return cls(location, open_database(location))

    @classmethod
    def read(cls, location: str | Path) -> Self:
        """Open a ledger to read it: no file is created or changed. One that is not there has no runs.

        Raises:
            LedgerError: it was written by a newer version of germinal, or is not a ledger.
        """
        return cls(location, open_to_read(location))

    def close(self) -> None:
        """Close the connections to the database."""
        self.engine.dispose()

    # ---- reading -------------------------------------------------------------------------------------------------

    def results(self, run_id: int | None = None) -> Results:
        """Everything that a run found; without `run_id`, the latest finished run over all rows.

        A trial run (--limit) is taken only if no other has finished: `Results.run.limit` tells.

        Raises:
            LedgerError: there is no such run.
        """
        with self._read() as session:
            return checked(results.results(session, results.find_run(session, run_id, self.location), self.location))

    def runs(self) -> list[RunRecord]:
        """All runs, newest first, unfinished ones included."""
        with self._read() as session:
            return [checked(results.run_record(run)) for run in session.scalars(select(Run).order_by(Run.id.desc()))]

    def answers(self, trial_id: str, split: str = "dev", run_id: int | None = None) -> list[AnswerRecord]:
        """What a trial answered to each row of a split, in the split's order.

        Raises:
            LedgerError: the run has no such trial, or the trial was not measured on that split.
        """
        with self._read() as session:
            return checked(results.answers(session, self._trial(session, trial_id, run_id), split))

    def prompts(self, trial_id: str, split: str = "dev", run_id: int | None = None) -> list[PromptRecord]:
        """The first few prompts of a trial, exactly as the model saw them; empty for a baseline."""
        with self._read() as session:
            trial = self._trial(session, trial_id, run_id)
            step = results.step_of(session, trial, f"predict/{split}")
            return checked([PromptRecord(**prompt) for prompt in step.values.get("prompts", [])])

    def history(self, trial_id: str, run_id: int | None = None) -> list[dict[str, Any]]:
        """The loss curve of a trial's tune step; empty for an untuned trial."""
        with self._read() as session:
            trial = self._trial(session, trial_id, run_id)
            step = session.get(Step, trial.steps["tune"]) if "tune" in trial.steps else None
            return list(self._record(step).values.get("history", [])) if step else []

    def step(self, key: str) -> StepRecord:
        """A step by its resolved key.

        Raises:
            LedgerError: there is no step with this key.
        """
        found = self.find_step(key)
        if found is None:
            raise LedgerError(f"there is no step {key[:12]}.", where=self.location)
        return found

    def find_step(self, key: str) -> StepRecord | None:
        """A step by its resolved key, or None."""
        with self._read() as session:
            row = session.get(Step, key)
            return self._record(row) if row else None

    def test_looks(self) -> int:
        """Number of runs that measured something new on test."""
        with self._read() as session:
            return results.test_looks(session)

    def last_steps(self, trial_id: str) -> tuple[RunRecord, dict[str, StepRecord]] | None:
        """The latest run that started any step of a trial, and these steps by role; None if no run did.

        A trial run (--limit) counts only if no other started any.
        """
        with self._read() as session:
            query = select(RunTrial, Run).join(Run, Run.id == RunTrial.run_id).where(RunTrial.trial_id == trial_id)
            for trial, run in session.execute(query.order_by(Run.limit.is_not(None), Run.id.desc())):
                if trial.steps:
                    rows = {role: session.get(Step, key) for role, key in trial.steps.items()}
                    return checked(results.run_record(run)), {
                        role: self._record(row) for role, row in rows.items() if row
                    }
            return None

    def measured(self, kind: str) -> list[StepRecord]:
        """The latest finished steps of a kind, newest first: the basis of estimates."""
        with self._read() as session:
            query = select(Step).where(Step.kind == kind, Step.status == "done").order_by(Step.finished_at.desc())
            return [self._record(row) for row in session.scalars(query.limit(50))]

    # ---- runs ----------------------------------------------------------------------------------------------------

    def begin_run(
        self, config: Mapping[str, Any], overrides: Sequence[str], limit: int | None, environment: Environment
    ) -> int:
        """Record the start of a run.

        The caller holds the project's lock, so runs that are still marked as running were killed; they become
        interrupted.
        """
        with self._session.begin() as session:
            session.execute(update(Run).where(Run.status == "running").values(status="interrupted"))
            run = Run(
                started_at=_now(),
                finished_at=None,
                status="running",
                limit=limit,
                overrides=list(overrides),
                config=dict(config),
                environment=asdict(environment),
                outcome={},
            )
            session.add(run)
            session.flush()
            return run.id

    def end_run(self, run_id: int, status: str, outcome: Mapping[str, Any] | None = None) -> None:
        """Record how a run ended, and what it chose."""
        with self._session.begin() as session:
            run = session.get_one(Run, run_id)
            run.status, run.finished_at = status, _now()
            if outcome is not None:
                run.outcome = dict(outcome)

    def record_trials(self, run_id: int, trials: Iterable[Mapping[str, Any]]) -> None:
        """Record a run's trials, under the run's names, with the steps they use; replaces earlier records."""
        with self._session.begin() as session:
            session.execute(delete(RunTrial).where(RunTrial.run_id == run_id))
            session.add_all(RunTrial(run_id=run_id, **trial) for trial in trials)

    def look_at_test(self, run_id: int, trial_id: str, step_key: str) -> None:
        """Record that something new was measured on test."""
        with self._session.begin() as session:
            session.add(TestLook(run_id=run_id, trial_id=trial_id, step_key=step_key, at=_now()))

    # ---- steps ---------------------------------------------------------------------------------------------------

    def begin_step(self, step: StepRecord, run_id: int) -> float:
        """Record the start of a step, and return the seconds that earlier, killed attempts at it took."""
        with self._session.begin() as session:
            row = session.get(Step, step.key)
            if row is None:
                row = Step(key=step.key, seconds=0.0, values={}, outputs={}, memory_note="")
                session.add(row)
            row.recipe_key, row.kind, row.name = step.recipe_key, step.kind, step.name
            row.parts, row.recipe_parts = step.parts, step.recipe_parts
            row.artifact = step.artifact.name if step.artifact else None
            row.environment, row.status, row.error = asdict(step.environment), "running", None
            row.started_at, row.finished_at, row.run_id = _now(), None, run_id
            return row.seconds

    def touch_step(self, key: str, seconds: float) -> None:
        """Record the time a step has taken so far, in case it is killed."""
        with self._session.begin() as session:
            session.execute(update(Step).where(Step.key == key).values(seconds=seconds))

    def finish_step(
        self,
        key: str,
        *,
        outputs: Mapping[str, str],
        values: Mapping[str, Any],
        seconds: float,
        peak_memory_bytes: int | None,
        memory_note: str,
        complete: bool = True,
    ) -> StepRecord:
        """Record the results of a step. From then on it is cached, unless it is incomplete: some of its rows failed."""
        with self._session.begin() as session:
            row = session.get_one(Step, key)
            row.outputs, row.values, row.seconds = dict(outputs), dict(values), seconds
            row.peak_memory_bytes, row.memory_note = peak_memory_bytes, memory_note
            row.status, row.finished_at = "done" if complete else "incomplete", _now()
            return self._record(row)

    def fail_step(self, key: str, error: str) -> None:
        """Record why a step failed. It is not cached: the next run tries again."""
        with self._session.begin() as session:
            session.execute(
                update(Step).where(Step.key == key).values(status="failed", error=error, finished_at=_now())
            )

    # ---- rows ----------------------------------------------------------------------------------------------------

    def store_examples(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Store rows of the data (`row_id`, `input`, `target`, `group`) by the digest of their content."""
        with self.engine.begin() as connection:
            renamed = [{**row, "row_group": row["group"]} for row in rows]
            for some in _batches(({k: v for k, v in row.items() if k != "group"} for row in renamed), _KEYS_PER_QUERY):
                insert_new(connection, _table(Example), some)

    def predictions(self, keys: Iterable[str]) -> dict[str, Prediction]:
        """The stored predictions among these keys."""
        found: dict[str, Prediction] = {}
        with self._read() as session:
            for some in _batches(dict.fromkeys(keys), _KEYS_PER_QUERY):
                for row in session.scalars(select(PredictionRow).where(PredictionRow.key.in_(some))):
                    kept = Prediction(row.key, row.kind, row.output, row.seconds, row.peak_memory_bytes)
                    check_prediction(row.kind, row.output)
                    found[row.key] = checked(kept)
        return found

    def store_predictions(self, predictions: Iterable[Prediction], run_id: int) -> None:
        """Store a batch of predictions in one transaction; keys that are already stored are left unchanged."""
        common = {"created_at": _now(), "run_id": run_id}
        rows = [{**asdict(prediction), **common} for prediction in predictions]
        with self.engine.begin() as connection:
            insert_new(connection, _table(PredictionRow), rows)

    def link_predictions(self, step_key: str, links: Iterable[PredictionLink]) -> None:
        """Record which predictions answer which rows in a step; replaces earlier links."""
        with self._session.begin() as session:
            session.execute(delete(StepPrediction).where(StepPrediction.step_key == step_key))
            session.add_all(StepPrediction(step_key=step_key, **asdict(link)) for link in links)

    def linked(self, step_key: str) -> list[PredictionLink]:
        """Which predictions answer which rows in a step, in the split's order."""
        with self._read() as session:
            query = select(StepPrediction).where(StepPrediction.step_key == step_key).order_by(StepPrediction.position)
            return [
                checked(PredictionLink(row.row_id, row.position, row.generation_key, row.score_key))
                for row in session.scalars(query)
            ]

    def store_answers(self, step_key: str, replicate: int, answers: Iterable[Mapping[str, Any]]) -> None:
        """Store the answers of a rule; replaces those of an interrupted attempt."""
        with self._session.begin() as session:
            session.execute(delete(Answer).where(Answer.step_key == step_key, Answer.replicate == replicate))
            session.add_all(Answer(step_key=step_key, replicate=replicate, **answer) for answer in answers)

    def stored_answers(self, step_key: str, replicate: int) -> list[dict[str, Any]]:
        """The stored answers, in the split's order, each with the row's target and group."""
        with self._read() as session:
            return results.stored_answers(session, step_key, replicate)

    def store_measurements(self, step_key: str, replicate: int, figures: Mapping[str, Figure]) -> None:
        """Store figures by metric; replaces those of an interrupted attempt."""
        same = (Measurement.step_key == step_key, Measurement.replicate == replicate)
        with self._session.begin() as session:
            session.execute(delete(Measurement).where(*same))
            session.add_all(
                Measurement(step_key=step_key, replicate=replicate, metric=metric, **asdict(figure))
                for metric, figure in figures.items()
            )

    def measurements(self, step_key: str) -> dict[int, dict[str, Figure]]:
        """The figures of a measure step: by replicate (`CANDIDATE` for all of them together), then by metric."""
        with self._read() as session:
            return checked(results.figures(session, step_key))

    def count(self, kind: str) -> int:
        """Number of stored rows of a kind: "predictions", "answers" or "examples"."""
        tables = {"predictions": PredictionRow, "answers": Answer, "examples": Example}
        with self._read() as session:
            return session.scalar(select(func.count()).select_from(tables[kind])) or 0

    @contextmanager
    def _read(self) -> Iterator[Session]:
        """A session, and errors that name the ledger where what it holds is not what a run writes."""
        with self._session() as session:
            try:
                yield session
            except GerminalError as error:
                error.where = error.where or self.location
                raise
            except (ArithmeticError, LookupError, TypeError, ValueError, AttributeError, SQLAlchemyError) as error:
                what = f"is damaged: {_shortened(error)}."
                hint = "Restore it from a backup, or move it away and run again."
                raise LedgerError(what, where=self.location, hint=hint) from error

    def _record(self, step: Step) -> StepRecord:
        return checked(results.step_record(step, self.location))

    def _trial(self, session: Session, trial_id: str, run_id: int | None) -> RunTrial:
        return results.find_trial(session, results.find_run(session, run_id, self.location), trial_id)


def _batches(items: Iterable[_Item], size: int) -> Iterator[list[_Item]]:
    source = iter(items)
    while batch := list(islice(source, size)):
        yield batch


def _shortened(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else f"{text[:197]}..."


def _table(model: type[Any]) -> Table:
    table: Table = model.__table__
    return table


def _now() -> datetime:
    return datetime.now(UTC)
