"""What every predictor can do, and what those can that learned their answers from labelled rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from germinal.predictors.answers import Answer
from germinal.progress import Reporter, silent
from germinal.text.context_window import FittedPrompt


class Predictor(Protocol):
    """What answers inputs."""

    def predict(self, inputs: Sequence[str], reporter: Reporter = silent) -> list[Answer]:
        """An answer to each input, in their order."""
        ...

    def save(self, folder: Path) -> None:
        """Write the predictor as a folder, in the place of what stood there."""
        ...


@runtime_checkable
class FittedPredictor(Predictor, Protocol):
    """A predictor that learned its answers from labelled rows: a plain baseline, or a model with a head."""

    @property
    def parameters(self) -> int:
        """How many numbers were learned."""
        ...

    def read(self, inputs: Sequence[str]) -> list[FittedPrompt]:
        """The inputs as a network reads them; nothing where there is none."""
        ...
