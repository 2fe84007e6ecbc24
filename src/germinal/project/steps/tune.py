"""The tune step: a LoRA adapter learns the answers of the training split on the zero-shot prompt.

It is resumable inside: an interrupted attempt leaves checkpoints in the artifact folder, from which the next goes on to
the same adapter.
"""

from __future__ import annotations

import gc
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from germinal.checkpoints.lora_folder import adapter_digest
from germinal.data import Row
from germinal.predictors.language_model_predictor import LanguageModelPredictor
from germinal.progress import Progress
from germinal.project.file.config import LoRASettings
from germinal.project.steps.base import Dependency, StepContext, StepResult
from germinal.project.steps.data import rows_of
from germinal.project.steps.model import short_name
from germinal.project.steps.prompted import PromptedStep, check_targets
from germinal.training.examples import TuningExample
from germinal.training.lora import tune_lora
from germinal.training.run_folder import read_history

SAVE_EVERY = 10
"""Updates between checkpoints: what a kill can cost."""


@dataclass(frozen=True)
class TuneStep(PromptedStep):
    """Tune an adapter. Output: `adapter`."""

    kind: ClassVar[str] = "tune"
    version: ClassVar[int] = 1
    keeps_files: ClassVar[bool] = True

    lora: LoRASettings
    seed: int

    @property
    def name(self) -> str:
        return f"tune {short_name(self.model.reference)}, LoRA of rank {self.lora.rank}"

    def settings(self) -> Mapping[str, Any]:
        return {
            "prompt": self.prompt_spec.key_parts(),
            "lora": self.lora.model_dump(),
            "precision": self.model.precision,
            "seed": self.seed,
        }

    def dependencies(self) -> Mapping[str, Dependency]:
        return {**super().dependencies(), "train": Dependency(self.data, "train")}

    def run(self, context: StepContext) -> StepResult:
        rows = rows_of(context.inputs["train"], "train", context.artifact.parent)[: self.lora.max_examples]

        def report(progress: Progress) -> None:
            context.report(Progress(self.name, progress.done, progress.total, progress.unit, progress.note))

        predictor = self.predictor(context, {})
        check_targets(predictor, rows)
        adapter = tune_lora(
            predictor.lm,
            tuning_examples(predictor, rows),
            self.lora.lora_config(),
            self.lora.training_config(self.seed, SAVE_EVERY),
            context.artifact,
            report,
        )
        gc.collect()  # what the optimiser held must not count as the memory of the next step
        result = json.loads((context.artifact / "result.json").read_text(encoding="utf-8"))
        history = [asdict(record) for record in read_history(context.artifact)]
        return StepResult({"adapter": adapter_digest(adapter)}, {**result, "examples": len(rows), "history": history})


def tuning_examples(predictor: LanguageModelPredictor, rows: Sequence[Row]) -> list[TuningExample]:
    """Each row's prompt, exactly as the model will be asked, and its answer, after which the model is to stop.

    The answer is the right label's word, or the target where targets are texts.
    """
    prompts = predictor.prompts_for([row.input for row in rows])
    words = predictor.continuation_ids
    end = predictor.lm.tokenizer.eos_id
    closing = () if end is None else (end,)
    return [
        TuningExample(
            prompt.ids, (*(words[row.target] if words else predictor.continuation(prompt, row.target)), *closing)
        )
        for prompt, row in zip(prompts, rows, strict=True)
    ]
