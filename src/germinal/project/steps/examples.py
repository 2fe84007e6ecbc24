"""The examples step: which rows of the training split are shown in a few-shot prompt.

Few-shot trials depend on the chosen rows and not on the training split: a new training row runs them again only when it
is chosen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from germinal.project.steps.base import Dependency, Step, StepContext, StepResult
from germinal.project.steps.data import DataStep, rows_of
from germinal.storage import digest
from germinal.text.examples import choose_examples


@dataclass(frozen=True)
class ExamplesStep(Step):
    """Choose worked examples, balanced by label where there are labels. Output: `examples`."""

    kind: ClassVar[str] = "examples"
    version: ClassVar[int] = 1

    data: DataStep
    shots: int
    seed: int

    @property
    def name(self) -> str:
        return f"choose examples: {self.shots}-shot, seed {self.seed}"

    def settings(self) -> Mapping[str, Any]:
        return {"shots": self.shots, "seed": self.seed}

    def dependencies(self) -> Mapping[str, Dependency]:
        return {"train": Dependency(self.data, "train"), "labels": Dependency(self.data, "labels")}

    def run(self, context: StepContext) -> StepResult:
        train = rows_of(context.inputs["train"], "train", context.artifact.parent)
        candidates = [(row.key, row.input, row.target) for row in train]
        labels = context.inputs["labels"].values["labels"]
        chosen = choose_examples(candidates, self.shots, self.seed, labels or None)
        pairs = [[example.input, example.target] for example in chosen]
        return StepResult({"examples": digest(pairs)}, {"examples": pairs})
