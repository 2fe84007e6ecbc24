"""germinal: from a narrow use case to a measured, tuned and served language model.

The names below are looked up when they are first used, so that `import germinal` stays quick and pulls in no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from germinal.version import __version__

if TYPE_CHECKING:
    from germinal.generation.config import GenerationConfig as GenerationConfig
    from germinal.language_model import LanguageModel as LanguageModel
    from germinal.loading import load as load
    from germinal.models import families as families
    from germinal.predictors.loading import load_predictor as load_predictor
    from germinal.project import Project as Project
    from germinal.writing.request import Completion as Completion

_HOMES = {
    "Completion": "germinal.writing.request",
    "GenerationConfig": "germinal.generation.config",
    "LanguageModel": "germinal.language_model",
    "Project": "germinal.project",
    "families": "germinal.models",
    "load": "germinal.loading",
    "load_predictor": "germinal.predictors.loading",
}

__all__ = [
    "Completion",
    "GenerationConfig",
    "LanguageModel",
    "Project",
    "__version__",
    "families",
    "load",
    "load_predictor",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'germinal' has no attribute '{name}'")
    home = _HOMES[name]
    # `families` is a module of its own, the others are names in a module.
    value = import_module(f"{home}.families") if name == "families" else getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
