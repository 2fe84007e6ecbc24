"""The ledger's tables, as SQLAlchemy models. Only `germinal.ledger` queries them.

Feedback (ratings of stored answers) will be another table that references `predictions.key`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    DateTime,
    Dialect,
    Double,
    ForeignKey,
    Index,
    Integer,
    String,
    Text,
    TypeDecorator,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

KEY = String(64)  # SHA-256 in hex
CANDIDATE = -1  # `replicate` of a measurement that covers all replicates of a candidate


class UTCDateTime(TypeDecorator[datetime]):
    """A time in UTC, timezone-aware even where the database (SQLite) does not store time zones."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Convert to UTC before writing."""
        return value.astimezone(UTC) if value is not None else None

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return the stored value as an aware UTC time."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Base(DeclarativeBase):
    """Base of all tables."""

    type_annotation_map = {  # noqa: RUF012 (SQLAlchemy's own way)
        dict[str, Any]: JSON,
        dict[str, str]: JSON,
        dict[str, float]: JSON,
        list[str]: JSON,
        datetime: UTCDateTime,
        float: Double,
    }


class Run(Base):
    """One `germinal run`."""

    __tablename__ = "runs"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    started_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]
    status: Mapped[str] = mapped_column(String(16))
    limit: Mapped[int | None] = mapped_column("row_limit", Integer)
    overrides: Mapped[list[str]]
    config: Mapped[dict[str, Any]]
    environment: Mapped[dict[str, Any]]
    outcome: Mapped[dict[str, Any]]  # key of the choose step, candidates' names, success, the difference dev can detect


class RunTrial(Base):
    """A trial under the name one run gave it, and the steps it used, by role."""

    __tablename__ = "run_trials"

    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id"), primary_key=True)
    trial_id: Mapped[str] = mapped_column(String(512), primary_key=True)
    candidate_id: Mapped[str] = mapped_column(String(512))
    position: Mapped[int]
    replicate: Mapped[int]
    spec: Mapped[dict[str, Any]]
    steps: Mapped[dict[str, str]]
    estimate: Mapped[dict[str, Any] | None]


class Step(Base):
    """A step by its resolved key: the parts of its key, its outputs, its cost, and where it ran."""

    __tablename__ = "steps"

    key: Mapped[str] = mapped_column(KEY, primary_key=True)
    recipe_key: Mapped[str] = mapped_column(KEY, index=True)
    kind: Mapped[str] = mapped_column(String(32))
    name: Mapped[str] = mapped_column(Text)
    status: Mapped[str] = mapped_column(String(16))
    parts: Mapped[dict[str, Any]]
    recipe_parts: Mapped[dict[str, Any]]
    outputs: Mapped[dict[str, str]]
    values: Mapped[dict[str, Any]] = mapped_column("result_values", JSON)
    artifact: Mapped[str | None] = mapped_column(Text)
    seconds: Mapped[float]
    peak_memory_bytes: Mapped[int | None] = mapped_column(BigInteger)
    memory_note: Mapped[str] = mapped_column(Text)
    environment: Mapped[dict[str, Any]]
    started_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]
    run_id: Mapped[int | None] = mapped_column(ForeignKey("runs.id"))
    error: Mapped[str | None] = mapped_column(Text)


class Example(Base):
    """A row of the user's data, by the digest of its content."""

    __tablename__ = "examples"

    row_id: Mapped[str] = mapped_column(KEY, primary_key=True)
    input: Mapped[str] = mapped_column(Text)
    target: Mapped[str] = mapped_column(Text)
    group: Mapped[str | None] = mapped_column("row_group", Text)


class PredictionRow(Base):
    """The output of one model with one adapter for one sequence of token ids."""

    __tablename__ = "predictions"

    key: Mapped[str] = mapped_column(KEY, primary_key=True)
    kind: Mapped[str] = mapped_column(String(16))
    output: Mapped[dict[str, Any]]
    seconds: Mapped[float]
    peak_memory_bytes: Mapped[int | None] = mapped_column(BigInteger)
    created_at: Mapped[datetime]
    run_id: Mapped[int | None] = mapped_column(ForeignKey("runs.id"))


class StepPrediction(Base):
    """Which predictions answer one row of a split in one predict or calibrate step."""

    __tablename__ = "step_predictions"

    step_key: Mapped[str] = mapped_column(ForeignKey("steps.key"), primary_key=True)
    row_id: Mapped[str] = mapped_column(KEY, primary_key=True)
    position: Mapped[int]
    generation_key: Mapped[str | None] = mapped_column(ForeignKey("predictions.key"))
    score_key: Mapped[str | None] = mapped_column(ForeignKey("predictions.key"))


class Answer(Base):
    """A rule's answer to one row, derived from its predictions. Every figure is computed over these."""

    __tablename__ = "answers"

    step_key: Mapped[str] = mapped_column(ForeignKey("steps.key"), primary_key=True)
    replicate: Mapped[int] = mapped_column(primary_key=True)
    row_id: Mapped[str] = mapped_column(KEY, primary_key=True)
    position: Mapped[int]
    answer: Mapped[str | None] = mapped_column(Text)
    text: Mapped[str | None] = mapped_column(Text)
    probabilities: Mapped[dict[str, float] | None]
    error: Mapped[str | None] = mapped_column(Text)
    correct: Mapped[bool]


class Measurement(Base):
    """A figure of one replicate, or of a candidate over all its replicates (`replicate` = CANDIDATE)."""

    __tablename__ = "measurements"

    step_key: Mapped[str] = mapped_column(ForeignKey("steps.key"), primary_key=True)
    replicate: Mapped[int] = mapped_column(primary_key=True)
    metric: Mapped[str] = mapped_column(String(64), primary_key=True)
    value: Mapped[float]
    low: Mapped[float | None]
    high: Mapped[float | None]
    n: Mapped[int]
    method: Mapped[str] = mapped_column(String(32))
    level: Mapped[float]


class TestLook(Base):
    """Something new was measured on the test split."""

    __tablename__ = "test_looks"
    __test__ = False  # pytest would collect it as a test class because of its name

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id"))
    trial_id: Mapped[str] = mapped_column(String(512))
    step_key: Mapped[str] = mapped_column(ForeignKey("steps.key"))
    at: Mapped[datetime]


Index("step_predictions_by_position", StepPrediction.step_key, StepPrediction.position)
Index("answers_by_position", Answer.step_key, Answer.replicate, Answer.position)
