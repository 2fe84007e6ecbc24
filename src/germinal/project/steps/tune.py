"""The tune step: a LoRA adapter learns the answers of the training split on the zero-shot prompt.

It is resumable inside: an interrupted attempt leaves checkpoints in the artifact folder, from which the next goes on to
the same adapter.
"""

from __future__ import annotations

import gc
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

from germinal.checkpoints.lora_folder import adapter_digest
from germinal.project.file.config import LoRASettings
from germinal.project.steps.base import Dependency, StepContext, StepResult
from germinal.project.steps.data import rows_of
from germinal.project.steps.model import short_name
from germinal.project.steps.prompted import PromptedStep, check_targets
from germinal.training.examples import prompted_examples
from germinal.training.lora import tune_lora
from germinal.training.run_folder import read_history, read_result

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


def run_values(folder: Path) -> dict[str, Any]:
    """What the ledger keeps of a training run: what it came to, and its history."""
    return {**read_result(folder), "history": [asdict(record) for record in read_history(folder)]}
