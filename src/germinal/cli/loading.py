"""A model for a command: loaded with progress, its adapter on it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from germinal.language_model import LanguageModel


def load(model: str, *, precision: str | None, adapter: Path | None = None, quiet: bool = False) -> LanguageModel:
    """Load a model; a download shows how far it is."""
    from germinal.checkpoints.references import parse

    parse(model)  # a name that is unknown is told before the seconds that torch takes to load

    from germinal import loading
    from germinal.cli.reporter import reporter

    with reporter(quiet=quiet) as report:
        return loading.load(model, precision=precision, adapter=adapter, reporter=report)
