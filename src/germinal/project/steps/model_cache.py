"""The model that a project's steps work with: one at a time is loaded."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import TYPE_CHECKING

from germinal.progress import Reporter, silent
from germinal.project.steps.memory import give_back

if TYPE_CHECKING:
    from germinal.language_model import LanguageModel


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
            from germinal.language_model import load

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
