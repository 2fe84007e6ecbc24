"""The calibrate step: the labels' priors, from training inputs or inputs without content; never from dev or test."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from germinal.data import Row
from germinal.predictors.answers import BATCH_CALIBRATION_INPUTS, CONTENT_FREE_INPUTS, priors_from
from germinal.project.file.config import Calibration
from germinal.project.steps.base import Dependency, StepContext, StepResult
from germinal.project.steps.data import rows_of
from germinal.project.steps.prompted import PromptedStep
from germinal.project.steps.rows import answer_rows
from germinal.storage import digest


@dataclass(frozen=True)
class CalibrateStep(PromptedStep):
    """Estimate the priors of one prompt on one model. Output: `priors`."""

    kind: ClassVar[str] = "calibrate"
    version: ClassVar[int] = 3

    method: Calibration

    @property
    def name(self) -> str:
        return f"calibrate: {self.title}"

    def settings(self) -> Mapping[str, Any]:
        return {"prompt": self.prompt_spec.key_parts(), "method": self.method, "precision": self.model.precision}

    def dependencies(self) -> Mapping[str, Dependency]:
        found = dict(super().dependencies())
        if self.method == "batch":
            found["rows"] = Dependency(self.data, "calibration")
        return found

    def run(self, context: StepContext) -> StepResult:
        rows = self._rows(context)
        predictor = self.predictor(context, {})
        answered = answer_rows(context, predictor, self.identity(context), rows, ("score",), self.name)
        labels = self.prompt_spec.labels(context.inputs["labels"].values["labels"])
        assert labels is not None, "only labels are calibrated"
        priors = priors_from(answered.outputs, labels)
        return StepResult(
            {"priors": digest(priors)},
            {"priors": priors, "inputs": len(rows)},
            seconds=answered.seconds,
            peak_memory_bytes=answered.peak_memory_bytes,
        )

    def num_examples(self, rows: Mapping[str, int]) -> int:
        return min(BATCH_CALIBRATION_INPUTS, rows["train"]) if self.method == "batch" else len(CONTENT_FREE_INPUTS)

    def _rows(self, context: StepContext) -> list[Row]:
        if self.method == "batch":
            return rows_of(context.inputs["rows"], "calibration", context.artifact.parent)
        return [
            Row(id=digest(text), key=digest(text), unit="", input=text, target="", group=None, position=place)
            for place, text in enumerate(CONTENT_FREE_INPUTS)
        ]
