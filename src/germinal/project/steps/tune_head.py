"""The tune step of an encoder: a classification head learns the training split, together with all weights under it.

An interrupted attempt is resumed, as that of an adapter is. The artifact is a predictor's folder.
"""

from __future__ import annotations

import gc
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar

from germinal.loading import load
from germinal.predictors.classifier_predictor import describe
from germinal.project.file.config import HeadSettings
from germinal.project.steps.base import Dependency, Step, StepContext, StepResult
from germinal.project.steps.data import DataStep, rows_of
from germinal.project.steps.model import ModelStep, short_name
from germinal.project.steps.tune import num_tuned_examples, run_values
from germinal.storage import digest
from germinal.text.context_window import ContextWindow
from germinal.training.classification import class_examples, tune_classifier

SAVE_EVERY = 40
"""Updates between two checkpoints: what a kill can cost. A checkpoint is three times as large as the model."""


@dataclass(frozen=True)
class TuneHeadStep(Step):
    """Tune a model with a head. Output: `predictor`."""

    kind: ClassVar[str] = "tune"
    version: ClassVar[int] = 1
    keeps_files: ClassVar[bool] = True
    adapter: ClassVar[str] = "head"

    data: DataStep
    model: ModelStep
    head: HeadSettings
    seed: int

    @property
    def name(self) -> str:
        return f"tune {short_name(self.model.reference)}, classification head"

    @property
    def title(self) -> str:
        """Whose answers these are, for a reader of the plan."""
        return f"{short_name(self.model.reference)}, head"

    def settings(self) -> Mapping[str, Any]:
        return {
            "head": self._head_parts(),
            "precision": self.model.precision,
            "seed": self.seed,
        }

    def _head_parts(self) -> dict[str, Any]:
        """The keys of [adapt.head] that affect this model: not which models have a head, nor an unused side."""
        side = self.head.truncate_side if self.head.overflow == "truncate_input" else None
        return {**self.head.model_dump(exclude={"models"}), "truncate_side": side}

    def dependencies(self) -> Mapping[str, Dependency]:
        return {
            "labels": Dependency(self.data, "labels"),
            "weights": Dependency(self.model, "weights"),
            "tokenizer": Dependency(self.model, "tokenizer"),
            "train": Dependency(self.data, "train"),
        }

    def num_examples(self, rows: Mapping[str, int]) -> int:
        return num_tuned_examples(self.head, rows)

    def run(self, context: StepContext) -> StepResult:
        rows = rows_of(context.inputs["train"], "train", context.artifact.parent)[: self.head.max_examples]
        labels: list[str] = context.inputs["labels"].values["labels"]
        lm = context.models.get(self.model.reference, self.model.precision)
        window = ContextWindow(lm.reader.limit, self.head.overflow, self.head.truncate_side)
        model = tune_classifier(
            lm,
            class_examples(lm, [(row.input, row.target) for row in rows], labels, window),
            labels,
            self.head.training_config(self.seed, SAVE_EVERY),
            context.artifact,
            context.reporter(self.name),
        )
        tuned = load(model)
        tuned.card = replace(tuned.card, name=short_name(self.model.reference))  # a folder's name says less
        describe(context.artifact, tuned, window)
        gc.collect()  # what the optimiser held must not count as the memory of the next step
        values = {
            **run_values(context.artifact),
            "parameters": tuned.network.num_parameters(),
            "examples": len(rows),
        }
        return StepResult({"predictor": digest([tuned.fingerprint, labels, asdict(window)])}, values)
