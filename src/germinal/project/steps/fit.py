"""The fit step: a plain baseline learns from the training split."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from germinal.predictors.baselines import BASELINES
from germinal.project.steps.base import Dependency, Step, StepContext, StepResult
from germinal.project.steps.data import DataStep, rows_of
from germinal.project.steps.environment import versions
from germinal.storage import folder_digest


@dataclass(frozen=True)
class FitStep(Step):
    """Fit a baseline and keep it. Output: `predictor`."""

    kind: ClassVar[str] = "fit"
    version: ClassVar[int] = 1
    keeps_files: ClassVar[bool] = True

    data: DataStep
    baseline: str

    @property
    def name(self) -> str:
        return f"fit {self.baseline}"

    @property
    def title(self) -> str:
        """Whose answers these are, for a reader of the plan."""
        return self.baseline

    def settings(self) -> Mapping[str, Any]:
        return {"baseline": self.baseline, "libraries": versions(("scikit-learn",))}

    def dependencies(self) -> Mapping[str, Dependency]:
        return {"train": Dependency(self.data, "train")}

    def run(self, context: StepContext) -> StepResult:
        train = rows_of(context.inputs["train"], "train", context.artifact.parent)
        predictor = BASELINES[self.baseline].fit([row.input for row in train], [row.target for row in train])
        predictor.save(context.artifact)
        return StepResult({"predictor": folder_digest(context.artifact)}, {"parameters": predictor.parameters})
