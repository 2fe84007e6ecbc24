"""What is read from a ledger has the types that a run writes: SQLite keeps any value in any column, and JSON any shape.

Records are checked field by field, and the values of steps by the kind of step. A key that a shape does not name is
left alone; one that is missing is missed by whom needs it, see `StepValues`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Annotated, Any, TypeVar, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from germinal.errors import LedgerError

_Value = TypeVar("_Value")
_Place = Annotated[int, Field(ge=0)]
_ABSENT: Any = None  # a default is not checked


class StepValues(dict[str, Any]):
    """What a step left, by name.

    Raises:
        LedgerError: a value is asked for that the step does not have.
    """

    def __init__(self, values: Mapping[str, Any], step: str, ledger: str) -> None:
        super().__init__(values)
        self._step, self._ledger = step, ledger

    def __missing__(self, key: str) -> Any:
        what = f"is damaged: the step '{self._step}' lacks its '{key}'."
        raise LedgerError(what, where=self._ledger, hint="Restore it from a backup, or move it away and run again.")


class _Shape(BaseModel):
    """An object of which only the keys that are read are checked, and these only if they are there."""

    model_config = ConfigDict(strict=True, extra="ignore")


class _Split(_Shape):
    rows: _Place
    labels: dict[str, int]


class _Splits(_Shape):
    train: _Split
    dev: _Split
    test: _Split


class _Data(_Shape):
    splits: _Splits = _ABSENT
    labels: list[str] = _ABSENT


class _Model(_Shape):
    parameters: int | None = _ABSENT


class _Examples(_Shape):
    examples: list[Annotated[list[str], Field(min_length=2, max_length=2)]] = _ABSENT


class _Tuned(_Shape):
    parameters: int | None = _ABSENT
    history: list[dict[str, int | float | None]] = _ABSENT
    best_step: int | None = _ABSENT


class _Calibrated(_Shape):
    priors: dict[str, float] = _ABSENT


class _Tokens(_Shape):
    prompt: int
    generated: int
    scored: int


class _Predicted(_Shape):
    parameters: int | None = _ABSENT
    tokens: _Tokens = _ABSENT
    prompts: list[dict[str, str | int]] = _ABSENT
    failed: dict[str, dict[str, Any]] = _ABSENT
    cut: int = _ABSENT


class _Spread(_Shape):
    low: float
    high: float
    deviation: float
    n: int


class _Measured(_Shape):
    parameters: int | None = _ABSENT
    tokens_per_example: float = _ABSENT
    work: float = _ABSENT
    replicates: list[dict[str, int]] = _ABSENT
    spread: dict[str, _Spread] = _ABSENT
    counts: list[dict[str, int]] = _ABSENT
    cut: int = _ABSENT


class _Compared(_Shape):
    first: _Place
    second: _Place


class _Chosen(_Shape):
    metric: str = _ABSENT
    best: _Place = _ABSENT
    tied: list[_Place] = _ABSENT
    winner: _Place = _ABSENT
    winner_replicate: _Place = _ABSENT
    reason: str = _ABSENT
    comparisons: list[_Compared] = _ABSENT


class _Clocked(_Shape):
    latency_ms: float = _ABSENT


class _Config(_Shape):
    scope: dict[str, Any] = _ABSENT


class _Generated(_Shape):
    text: str = _ABSENT
    finish_reason: str | None = _ABSENT
    token_ids: list[int] = _ABSENT
    computed_tokens: int = _ABSENT


class _Scored(_Shape):
    label_logprobs: dict[str, float] = _ABSENT
    computed_tokens: int = _ABSENT


class _Answered(_Shape):
    label: str | None = _ABSENT
    text: str = _ABSENT
    probabilities: dict[str, float] | None = _ABSENT
    error: str | None = _ABSENT


_STEPS: Mapping[str, Any] = {
    "data": _Data,
    "model": _Model,
    "fit": _Model,
    "examples": _Examples,
    "tune": _Tuned,
    "calibrate": _Calibrated,
    "predict": _Predicted,
    "measure": _Measured,
    "choose": _Chosen,
    "clock": _Clocked,
}
_PREDICTIONS: Mapping[str, Any] = {"generate": _Generated, "score": _Scored, "answer": _Answered}


def check_step(kind: str, values: Any) -> None:
    """Check the values of a finished step.

    Raises:
        ValueError: they are not what a step of that kind leaves.
    """
    _check(_STEPS.get(kind, dict[str, Any]), values)


def check_prediction(kind: str, output: Any) -> None:
    """Check a stored output; errors are those of `check_step`."""
    _check(_PREDICTIONS.get(kind, dict[str, Any]), output)


def check_config(config: Any) -> None:
    """Check the part of a project's config that is read without its schema; errors are those of `check_step`."""
    _check(_Config, config)


def checked(value: _Value) -> _Value:
    """A record, or several, with every field of the type that its class declares.

    Raises:
        ValueError: a field has another.
    """
    if isinstance(value, Mapping):
        for item in value.values():
            checked(item)
    elif isinstance(value, list | tuple):
        for item in value:
            checked(item)
    elif is_dataclass(value) and not isinstance(value, type):
        for field in fields(value):
            found = getattr(value, field.name)
            _field(type(value), field.name).validate_python(found, strict=True)
            checked(found)
    return value


def _check(shape: Any, value: Any) -> None:
    _adapter(shape).validate_python(value, strict=True)


@cache
def _adapter(shape: Any) -> TypeAdapter[Any]:
    return TypeAdapter(shape)


@cache
def _field(record: type, name: str) -> TypeAdapter[Any]:
    return TypeAdapter(get_type_hints(record)[name])
