"""The model step: a reference (alias, folder, file, hub id) becomes weights and a tokenizer, known by their content."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, ClassVar

from germinal.checkpoints import references, sources
from germinal.checkpoints.cache import remembered
from germinal.errors import GerminalError, LedgerError, ModelNotFoundError, UnsupportedError
from germinal.files import read_json
from germinal.ledger.records import StepRecord
from germinal.models.config import TransformerConfig
from germinal.project.steps.base import Step, StepContext, StepResult
from germinal.storage import digest, file_digest

if TYPE_CHECKING:
    from germinal.language_model import LanguageModel

_READ_SUFFIXES = (".safetensors", ".bin", ".gguf", ".json", ".jinja", ".model")
_READ_NAMES = ("vocab.txt", "merges.txt")
_MOST_JSON = 1 << 25


@dataclass(frozen=True)
class ModelStep(Step):
    """Fetch and load a model.

    Outputs: `weights`; `tokenizer`, with its chat template and all else that answers begin and end with.
    """

    kind: ClassVar[str] = "model"
    version: ClassVar[int] = 2

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
        return None if path is None else source_digests(path)

    def run(self, context: StepContext) -> StepResult:
        model = context.models.get(self.reference, self.precision)
        check_purpose(self.reference, model.config, head=self.head)
        outputs = outputs_of(model)
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


def outputs_of(model: LanguageModel) -> dict[str, str]:
    """The digests of what answers depend on. Conventions beside a chat template count only if a model has some."""
    conventions = dict(model.conventions)
    template = conventions.pop("chat_template", None)
    read = [model.tokenizer.fingerprint, template, *([conventions] if conventions else [])]
    return {"weights": model.fingerprint, "tokenizer": digest(read)}


def check_measured(model: LanguageModel, step: StepRecord) -> None:
    """Refuse a model that is not the one that a finished model step loaded.

    Raises:
        LedgerError: says what differs.
    """
    now = outputs_of(model)
    known = ("weights", "tokenizer") if step.parts.get("version") == ModelStep.version else ("weights",)
    differing = [name for name in known if step.outputs.get(name) != now[name]]
    if differing:
        what = {
            "weights": "its weights, its config or its tokenizer differ",
            "tokenizer": "its chat template, or what its answers begin and end with, differ",
        }[differing[0]]
        raise LedgerError(
            f"the model '{model.card.name}' is not the one that was measured: {what}.",
            hint="`germinal run` measures the present one, and `germinal why` names the file that changed.",
        )


def source_digests(path: Path) -> dict[str, str]:
    """Digests of a model's files by name: of a file of JSON that of its values, of another that of its bytes.

    They are remembered for as long as the files do not change.
    """
    if path.is_file():
        return {"file": remembered("source", [path], None, lambda: file_digest(path))}
    files = [file for file in sorted(path.rglob("*")) if file.is_file() and _is_read(file.relative_to(path))]
    return {file.relative_to(path).as_posix(): _digest_of(file) for file in files}


def _is_read(name: Path) -> bool:
    """Whether a file of a model's folder may be read: in the folder itself, or one of its modules or templates."""
    hidden = any(part.startswith(".") for part in name.parts)
    return not hidden and len(name.parts) <= 2 and (name.suffix in _READ_SUFFIXES or name.name in _READ_NAMES)


def _digest_of(file: Path) -> str:
    def compute() -> str:
        if file.suffix == ".json" and file.stat().st_size <= _MOST_JSON:
            with suppress(GerminalError, TypeError):
                return digest(read_json(file))
        return file_digest(file)

    return remembered("source values", [file], None, compute)


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
