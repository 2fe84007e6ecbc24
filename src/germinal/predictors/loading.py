"""From a folder to the predictor that it holds, whatever its kind."""

from __future__ import annotations

from pathlib import Path

from germinal.errors import UnsupportedError
from germinal.language_model import LanguageModel
from germinal.predictors.baselines import BASELINES
from germinal.predictors.classifier_predictor import ClassifierPredictor
from germinal.predictors.folder import FILE, damaged, read_content
from germinal.predictors.language_model_predictor import LanguageModelPredictor
from germinal.predictors.predictor import Predictor
from germinal.progress import Reporter, silent


def load_predictor(folder: str | Path, lm: LanguageModel | None = None, reporter: Reporter = silent) -> Predictor:
    """Load a saved predictor of any kind.

    Args:
        folder: What `save` wrote.
        lm: The base model, if it is in memory already; None loads it by the reference that the folder keeps.
        reporter: Told of the progress of its download.

    Raises:
        ModelNotFoundError: there is no predictor in the folder, or its base model cannot be found.
        CheckpointError: the folder is damaged, or the base model has other weights than when the predictor was saved.
        UnsupportedError: it was written by a newer version.
    """
    folder = Path(folder)
    content = read_content(folder)
    kind = content.get("kind")
    if kind == LanguageModelPredictor.kind:
        return LanguageModelPredictor.load(folder, content, lm, reporter)
    if kind == ClassifierPredictor.kind:
        return ClassifierPredictor.load(folder, content, reporter)
    if not isinstance(kind, str) or kind not in BASELINES:
        raise UnsupportedError(f"holds a predictor of the unknown kind '{kind}'.", where=str(folder / FILE))
    try:
        return BASELINES[kind].load(folder, content)
    except (LookupError, TypeError, ValueError) as error:
        raise damaged(folder, error) from error
