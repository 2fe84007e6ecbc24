"""The model step: a reference (alias, folder, file, hub id) becomes weights and a tokenizer, known by content."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from germinal.project.steps.base import Step, StepContext, StepResult
from germinal.project.steps.loaded_models import check_purpose, locate, short_name, source_digest
from germinal.storage import digest


@dataclass(frozen=True)
class ModelStep(Step):
    """Fetch and load a model. Outputs: `weights`, `tokenizer` (with its chat template)."""

    kind: ClassVar[str] = "model"
    version: ClassVar[int] = 1

    reference: str
    precision: str
    head: bool = False
    """Whether it shall have a head for the labels; else it is prompted."""

    @property
    def name(self) -> str:
        return f"load {short_name(self.reference)} in {self.precision}"

    def settings(self) -> Mapping[str, Any]:
        return {"precision": self.precision, **({"head": True} if self.head else {})}

    def sources(self) -> Mapping[str, str]:
        return {"model": self.reference}

    def identify(self, folder: Path, *, fetch: bool) -> Mapping[str, str] | None:
        path = locate(self.reference, folder, fetch=fetch)
        return None if path is None else {"model": source_digest(path)}

    def run(self, context: StepContext) -> StepResult:
        model = context.models.get(self.reference, self.precision)
        check_purpose(self.reference, model.config, head=self.head)
        template = model.tokenizer.chat_template
        outputs = {"weights": model.fingerprint, "tokenizer": digest([model.tokenizer.fingerprint, template])}
        values = {
            "parameters": sum(weight.numel() for weight in model.network.parameters()),
            "context_window": model.config.max_position_embeddings,
            "precision": model.precision,
            "name": model.card.name,
        }
        return StepResult(outputs, values)
