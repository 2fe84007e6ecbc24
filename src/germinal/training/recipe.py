"""Everything that decides the result of a tuning run: with another recipe, a run folder is refused."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from germinal.training.config import TrainingConfig

if TYPE_CHECKING:
    from germinal.language_model import LanguageModel


def tuning_recipe(lm: LanguageModel, config: TrainingConfig, **inputs: Any) -> dict[str, Any]:
    """The recipe of tuning `lm`: the model by content, `inputs` (the examples' digest among them), and the settings."""
    recipe = {"base": lm.fingerprint, "precision": lm.precision, **inputs, **asdict(config)}
    del recipe["save_every"]  # how often checkpoints are written does not change them
    return recipe
