"""The clock step: the winner's time for one answer, and its memory, with one input at a time.

The result holds for the machine that it ran on, which the ledger records with it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any, ClassVar

from germinal.project.steps.base import Dependency, Step, StepContext, StepResult
from germinal.project.steps.data import rows_of
from germinal.project.steps.predict import PredictStep
from germinal.project.steps.predict_fitted import FittedPredictStep
from germinal.storage import digest

_WARM_UP, _TIMED = 2, 10


@dataclass(frozen=True)
class ClockStep(Step):
    """Time the answers of one trial. Output: `latency`."""

    kind: ClassVar[str] = "clock"
    version: ClassVar[int] = 1

    predict: PredictStep | FittedPredictStep

    @property
    def name(self) -> str:
        return f"clock {self.predict.name.split(': ')[-1]}"

    def settings(self) -> Mapping[str, Any]:
        return {"of": dict(self.predict.settings()), "warm_up": _WARM_UP, "timed": _TIMED}

    def dependencies(self) -> Mapping[str, Dependency]:
        return self.predict.dependencies()

    def run(self, context: StepContext) -> StepResult:
        rows = rows_of(context.inputs["rows"], self.predict.split, context.artifact.parent)
        answer = self._answer(context)
        seconds: list[float] = []
        for number in range(_WARM_UP + _TIMED):
            text = rows[number % len(rows)].input
            started = time.perf_counter()
            answer(text)
            seconds.append(time.perf_counter() - started)
        latency = 1000 * median(seconds[_WARM_UP:])
        return StepResult({"latency": digest(latency)}, {"latency_ms": latency})

    def _answer(self, context: StepContext) -> Callable[[str], object]:
        if isinstance(self.predict, FittedPredictStep):
            fitted = self.predict.predictor(context)
            return lambda text: fitted.predict([text])
        step = self.predict
        predictor = step.predictor(context, step.generation)
        return lambda text: list(predictor.outputs([text], wanted=step.wants))
