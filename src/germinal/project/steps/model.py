"""The model step: a reference (alias, folder, file, hub id) becomes weights and a tokenizer, known by their content."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

from germinal.checkpoints import references, sources
from germinal.checkpoints.cache import remembered
from germinal.errors import ModelNotFoundError, UnsupportedError
from germinal.models.config import TransformerConfig
from germinal.project.steps.base import Step, StepContext, StepResult
from germinal.storage import digest, file_digest

_READ_FILES = (".safetensors", ".gguf", ".json", ".jinja", ".model", ".txt")


@dataclass(frozen=True)
class ModelStep(Step):
    """Fetch and load a model. Outputs: `weights`, `tokenizer` (with its chat template)."""

    kind: ClassVar[str] = "model"
    version: ClassVar[int] = 1

    reference: str
    precision: str
    head: bool = False
    """Whether it gets a classification head; else it is prompted."""

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


def locate(reference: str, folder: Path, *, fetch: bool) -> Path | None:
    """The files of a model.

    Args:
        reference: A relative path starts at `folder`.
        fetch: Download what is not here; else the result is None where that would be needed.

    Raises:
        ModelNotFoundError: there is no such model.
    """
    local = folder / Path(reference).expanduser()
    if local.exists():
        return local
    references.parse(reference)  # refuses what cannot be a reference
    try:
        return sources.fetch(reference, offline=None if fetch else True)
    except ModelNotFoundError:
        if fetch:
            raise
        return None


def source_digest(path: Path) -> str:
    """Digest of a model's files: their contents, and for a folder their names in it.

    It is remembered for as long as the files do not change.
    """
    if path.is_file():
        return remembered("source", [path], None, lambda: file_digest(path))
    files = sorted(file for file in path.iterdir() if file.suffix in _READ_FILES)
    return remembered("source", files, None, lambda: digest({file.name: file_digest(file) for file in files}))


def short_name(reference: str) -> str:
    """The last part of a reference, for the names of trials and steps."""
    last = PurePosixPath(reference.rstrip("/").split("@")[0].split(":")[-1]).name
    return last.removesuffix(".gguf") or reference


def check_purpose(reference: str, config: TransformerConfig, *, head: bool) -> None:
    """Refuse a model that cannot do what the project asks of it.

    Args:
        head: Whether it gets a classification head; else it is prompted.

    Raises:
        UnsupportedError: names the model, what it lacks, and the key of the project file.
    """
    if head and config.stacks != "encoder":
        raise UnsupportedError(
            f"'{reference}' is not an encoder, and only encoders get a classification head.",
            where="adapt.head.models",
            hint="Leave it out here: it is prompted, and [adapt.lora] tunes it.",
        )
    if not head and config.head != "lm":
        raise UnsupportedError(
            f"'{reference}' cannot be prompted: it reads and does not write.",
            where="select.models",
            hint=f'If answers are labels, give it a head for them: models = ["{reference}"] under [adapt.head].'
            if config.stacks == "encoder"
            else "Choose a model with a language-model head.",
        )
