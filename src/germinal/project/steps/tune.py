"""The tune step: a LoRA adapter learns the answers of the training split on the zero-shot prompt.

An interrupted attempt leaves checkpoints in the artifact folder; the next one resumes from them to the same adapter.
"""

from __future__ import annotations

import gc
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

from germinal.checkpoints.peft_folder import adapter_digest
from germinal.project.file.config import LoRASettings, TrainingSettings
from germinal.project.steps.base import Dependency, StepContext, StepResult
from germinal.project.steps.data import rows_of
from germinal.project.steps.model import short_name
from germinal.project.steps.prompted import PromptedStep, check_targets
from germinal.training.examples import prompted_examples
from germinal.training.lora import tune_lora
from germinal.training.run_folder import read_history, read_result

SAVE_EVERY = 10
"""Updates between two checkpoints: what a kill can cost."""


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

    def num_examples(self, rows: Mapping[str, int]) -> int:
        return num_tuned_examples(self.lora, rows)

    def run(self, context: StepContext) -> StepResult:
        rows = rows_of(context.inputs["train"], "train", context.artifact.parent)[: self.lora.max_examples]
        predictor = self.predictor(context, {})
        check_targets(predictor, rows)
        adapter = tune_lora(
            predictor.lm,
            prompted_examples(predictor, [(row.input, row.target) for row in rows]),
            self.lora.lora_config(),
            self.lora.training_config(self.seed, SAVE_EVERY),
            context.artifact,
            context.reporter(self.name),
        )
        gc.collect()  # what the optimiser held must not count as the memory of the next step
        return StepResult({"adapter": adapter_digest(adapter)}, {**run_values(context.artifact), "examples": len(rows)})


def num_tuned_examples(settings: TrainingSettings, rows: Mapping[str, int]) -> int:
    """The work of tuning, in examples: learning one takes about as long as answering three, forward and backward."""
    used = min(rows["train"], settings.max_examples or rows["train"])
    return 3 * settings.epochs * used


def run_values(folder: Path) -> dict[str, Any]:
    """What the ledger keeps of a training run: its result and its history."""
    return {**read_result(folder), "history": [asdict(record) for record in read_history(folder)]}
