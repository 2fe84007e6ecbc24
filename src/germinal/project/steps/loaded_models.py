"""Models while a project runs: where a reference points, what its files' digest is, and one loaded at a time."""

from __future__ import annotations

import gc
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from germinal.errors import ModelNotFoundError, UnsupportedError
from germinal.progress import Reporter, silent
from germinal.project.steps.memory import give_back
from germinal.storage import digest, file_digest

if TYPE_CHECKING:
    from germinal.language_model import LanguageModel
    from germinal.models.config import TransformerConfig

_READ_FILES = (".safetensors", ".gguf", ".json", ".jinja", ".model", ".txt")


def locate(reference: str, folder: Path, *, fetch: bool) -> Path | None:
    """The files of a model; a relative path starts at `folder`.

    Args:
        fetch: Download what is not here. Without it, None says that it would have to be.

    Raises:
        ModelNotFoundError: there is no such model.
    """
    from germinal.checkpoints import references, sources

    local = folder / Path(reference).expanduser()
    if local.exists():
        return local
    references.parse(reference)  # what names nothing at all is said at once
    try:
        return sources.fetch(reference, offline=None if fetch else True)
    except ModelNotFoundError:
        if fetch:
            raise
        return None


def source_digest(path: Path) -> str:
    """Digest of a model's files by their contents; a folder's files count by their names inside it too.

    It is remembered for as long as the files stay as they are.
    """
    from germinal.checkpoints.cache import remembered

    if path.is_file():
        return remembered("source", [path], None, lambda: file_digest(path))
    files = sorted(file for file in path.iterdir() if file.suffix in _READ_FILES)
    return remembered("source", files, None, lambda: digest({file.name: file_digest(file) for file in files}))


def short_name(reference: str) -> str:
    """The last part of a reference, for names of trials and steps."""
    last = PurePosixPath(reference.rstrip("/").split("@")[0].split(":")[-1]).name
    return last.removesuffix(".gguf") or reference


def check_purpose(reference: str, config: TransformerConfig, *, head: bool) -> None:
    """Refuse a model that cannot do what the project wants of it.

    Args:
        head: Whether it shall get a head for the labels; else it is prompted.

    Raises:
        UnsupportedError: names the model, what it is and the key of the project file.
    """
    if head and config.stacks != "encoder":
        raise UnsupportedError(
            f"'{reference}' is no encoder, and only encoders get a head for the labels.",
            where="adapt.head.models",
            hint="Leave it out there: it is prompted, and tuned by [adapt.lora].",
        )
    if not head and config.head != "lm":
        raise UnsupportedError(
            f"'{reference}' cannot be prompted: it reads and does not write.",
            where="select.models",
            hint=f'Where answers are labels it can have a head for them: models = ["{reference}"] under [adapt.head].'
            if config.stacks == "encoder"
            else "Choose a model with a language-model head.",
        )


class ModelCache:
    """The model that steps work with. Another one takes its place, so that each is measured alone."""

    def __init__(self, folder: Path, reporter: Reporter = silent) -> None:
        self._folder = folder
        self._reporter = reporter
        self._held: tuple[str, str] | None = None
        self._model: LanguageModel | None = None

    def get(self, reference: str, precision: str) -> LanguageModel:
        """The model, loaded once for all steps that follow each other."""
        if self._held != (reference, precision):
            from germinal.loading import load

            self.clear()
            local = self._folder / Path(reference).expanduser()
            model = load(local if local.exists() else reference, precision, reporter=self._reporter)
            _ = model.fingerprint  # of the weights as they were read, before any adapter
            self._held, self._model = (reference, precision), model
        assert self._model is not None
        return self._model

    def clear(self) -> None:
        """Let go of the model and its memory."""
        self._held = self._model = None
        gc.collect()
        give_back()
