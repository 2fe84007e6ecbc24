"""The interface of every predictor, and that of predictors that learned from labelled rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from germinal.predictors.answers import Answer
from germinal.progress import Reporter, silent
from germinal.text.context_window import FittedPrompt


class Predictor(Protocol):
    """What answers the inputs of a use case."""

    def predict(self, inputs: Sequence[str], reporter: Reporter = silent) -> list[Answer]:
        """An answer to each input, in their order."""
        ...

    def save(self, folder: Path) -> None:
        """Write the predictor as a folder, which replaces what stood there."""
        ...


@runtime_checkable
class FittedPredictor(Predictor, Protocol):
    """A predictor that learned its answers from labelled rows: a plain baseline, or a model with a head."""

    @property
    def parameters(self) -> int:
        """How many numbers were learned."""
        ...

    def read(self, inputs: Sequence[str]) -> list[FittedPrompt]:
        """The inputs as a network reads them; empty if there is no network."""
        ...
