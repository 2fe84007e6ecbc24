"""The model that a project's steps work with; one is loaded at a time."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import TYPE_CHECKING

from germinal.progress import Reporter, silent
from germinal.project.steps.memory import give_back

if TYPE_CHECKING:
    from germinal.language_model import LanguageModel


class ModelCache:
    """Keeps the model that was loaded last. Another one replaces it, so that the memory of each is measured alone.

    Args:
        folder: The folder of germinal.toml, where relative paths start.
        reporter: Receives the progress of a download.
    """

    def __init__(self, folder: Path, reporter: Reporter = silent) -> None:
        self._folder = folder
        self._reporter = reporter
        self._held: tuple[str, str] | None = None
        self._model: LanguageModel | None = None

    def get(self, reference: str, precision: str) -> LanguageModel:
        """The model, loaded once for all steps in a row that work with it."""
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
