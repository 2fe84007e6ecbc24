"""The tune step of an encoder: a head for the labels learns the training split, with all weights under it.

It is resumable inside, as the tuning of an adapter is. Its artifact is a predictor's folder, with the run's history.
"""

from __future__ import annotations

import gc
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar

from germinal.data import Row
from germinal.language_model import LanguageModel
from germinal.loading import load
from germinal.predictors.classifier_predictor import describe, read_inputs
from germinal.progress import Progress
from germinal.project.file.config import HeadSettings
from germinal.project.steps.base import Dependency, Step, StepContext, StepResult
from germinal.project.steps.data import DataStep, rows_of
from germinal.project.steps.loaded_models import short_name
from germinal.project.steps.model import ModelStep
from germinal.storage import digest
from germinal.text.context_window import ContextWindow
from germinal.training.classification import ClassExample, tune_classifier
from germinal.training.run_folder import read_history

SAVE_EVERY = 40
"""Updates between checkpoints: what a kill can cost. One is three times the model, so that they are not cheap."""


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
        return f"tune {short_name(self.model.reference)}, head for the labels"

    @property
    def title(self) -> str:
        """Whose answers these are."""
        return f"{short_name(self.model.reference)}, head"

    def settings(self) -> Mapping[str, Any]:
        return {
            "head": self._head_parts(),
            "precision": self.model.precision,
            "seed": self.seed,
        }

    def _head_parts(self) -> dict[str, Any]:
        """What of [adapt.head] bears on this model: not which others have a head, nor the side where nothing is cut."""
        side = self.head.truncate_side if self.head.overflow == "truncate_input" else None
        return {**self.head.model_dump(exclude={"models"}), "truncate_side": side}

    def dependencies(self) -> Mapping[str, Dependency]:
        return {
            "labels": Dependency(self.data, "labels"),
            "weights": Dependency(self.model, "weights"),
            "tokenizer": Dependency(self.model, "tokenizer"),
            "train": Dependency(self.data, "train"),
        }

    def run(self, context: StepContext) -> StepResult:
        rows = rows_of(context.inputs["train"], "train", context.artifact.parent)[: self.head.max_examples]
        labels: list[str] = context.inputs["labels"].values["labels"]

        def report(progress: Progress) -> None:
            context.report(Progress(self.name, progress.done, progress.total, progress.unit, progress.note))

        lm = context.models.get(self.model.reference, self.model.precision)
        window = ContextWindow(lm.reader.limit, self.head.overflow, self.head.truncate_side)
        model = tune_classifier(
            lm,
            class_examples(lm, rows, labels, window),
            labels,
            self.head.training_config(self.seed, SAVE_EVERY),
            context.artifact,
            report,
        )
        tuned = load(model)
        tuned.card = replace(tuned.card, name=short_name(self.model.reference))  # a folder's name says less
        describe(context.artifact, tuned, window)
        gc.collect()  # what the optimiser held must not count as the memory of the next step
        result = json.loads((context.artifact / "result.json").read_text(encoding="utf-8"))
        values = {
            **result,
            "parameters": tuned.network.num_parameters(),
            "examples": len(rows),
            "history": [asdict(record) for record in read_history(context.artifact)],
        }
        return StepResult({"predictor": digest([tuned.fingerprint, labels, asdict(window)])}, values)


def class_examples(
    lm: LanguageModel, rows: Sequence[Row], labels: Sequence[str], window: ContextWindow
) -> list[ClassExample]:
    """Each row's input as the model reads it, and the number of its label."""
    read = read_inputs(lm, [row.input for row in rows], window)
    return [ClassExample(fitted.ids, labels.index(row.target)) for fitted, row in zip(read, rows, strict=True)]
