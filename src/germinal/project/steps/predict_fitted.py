"""The predict step of a plain baseline or a model with a head, which was fitted and needs no prompt and no rule."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from germinal.data import Row
from germinal.ledger.records import Prediction, PredictionLink
from germinal.predictors.loading import load_predictor
from germinal.predictors.predictor import FittedPredictor
from germinal.progress import Progress
from germinal.project.steps.base import Dependency, Step, StepContext, StepResult, artifact_of
from germinal.project.steps.data import DataStep, rows_of
from germinal.project.steps.fit import FitStep
from germinal.project.steps.predict import shown
from germinal.project.steps.rows import BATCH
from germinal.project.steps.tune_head import TuneHeadStep
from germinal.storage import digest


@dataclass(frozen=True)
class FittedPredictStep(Step):
    """Answer the inputs of a split. Output: `answers`."""

    kind: ClassVar[str] = "predict"
    version: ClassVar[int] = 1

    data: DataStep
    fit: FitStep | TuneHeadStep
    split: str

    @property
    def name(self) -> str:
        return f"predict {self.split}: {self.fit.title}"

    def settings(self) -> Mapping[str, Any]:
        return {"baseline": self.fit.baseline} if isinstance(self.fit, FitStep) else {"adapter": self.fit.adapter}

    def dependencies(self) -> Mapping[str, Dependency]:
        return {"predictor": Dependency(self.fit, "predictor"), "rows": Dependency(self.data, self.split)}

    def num_examples(self, rows: Mapping[str, int]) -> int:
        return rows[self.split] if isinstance(self.fit, TuneHeadStep) else 0  # a baseline answers in no time

    def run(self, context: StepContext) -> StepResult:
        fitted = context.inputs["predictor"]
        rows = rows_of(context.inputs["rows"], self.split, context.artifact.parent)
        keys = [digest(["answer", fitted.outputs["predictor"], row.input]) for row in rows]
        predictor = self.predictor(context)
        self._answer(context, predictor, rows, keys)
        stored = context.ledger.predictions(keys)
        context.ledger.link_predictions(
            context.key, [PredictionLink(row.id, place, keys[place], None) for place, row in enumerate(rows)]
        )
        used = {key: stored[key] for key in keys}.values()
        peaks = [prediction.peak_memory_bytes for prediction in used if prediction.peak_memory_bytes is not None]
        read = predictor.read([row.input for row in rows])
        tokens = {"prompt": sum(len(prompt.ids) for prompt in read), "generated": 0, "scored": 0}
        said = [[row.id, stored[key].output] for row, key in zip(rows, keys, strict=True)]
        return StepResult(
            {"answers": digest(said)},
            {
                "parameters": fitted.values.get("parameters"),
                "tokens": tokens,
                "prompts": shown(rows, read),
                "truncated_tokens": sum(prompt.truncated_tokens for prompt in read),
            },
            seconds=sum(prediction.seconds for prediction in used),
            peak_memory_bytes=max(peaks, default=None),
        )

    def predictor(self, context: StepContext) -> FittedPredictor:
        """The predictor, loaded. The model of other steps makes room, so that this one's memory is measured alone."""
        folder = artifact_of(context.inputs["predictor"], context.artifact.parent)
        if isinstance(self.fit, TuneHeadStep):
            context.models.clear()
        predictor = load_predictor(folder)
        assert isinstance(predictor, FittedPredictor)
        return predictor

    def _answer(
        self, context: StepContext, predictor: FittedPredictor, rows: Sequence[Row], keys: Sequence[str]
    ) -> None:
        """Answer what the ledger lacks, and store it batch by batch."""
        stored = context.ledger.predictions(keys)
        missing = list({key: place for place, key in enumerate(keys) if key not in stored}.values())
        context.rows.predicted += len(missing)
        context.rows.reused += len(rows) - len(missing)
        for start in range(0, len(missing), BATCH):
            batch = missing[start : start + BATCH]
            before = time.perf_counter()
            answers = predictor.predict([rows[place].input for place in batch])
            seconds, peak = (time.perf_counter() - before) / len(batch), context.peak_memory()
            context.ledger.store_predictions(
                (
                    Prediction(keys[place], "answer", answer.to_json(), seconds, peak)
                    for place, answer in zip(batch, answers, strict=True)
                ),
                context.run_id,
            )
            context.report(Progress(self.name, len(rows) - len(missing) + start + len(batch), len(rows), "examples"))
