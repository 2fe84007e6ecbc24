"""The folder of a predictor: `predictor.json`, which says what kind it is and all of it that is text or numbers, and
beside it files that hold tensors. Nothing in it is code: no pickle, and no path that is followed out of the folder.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from germinal.errors import CheckpointError, ModelNotFoundError, UnsupportedError
from germinal.predictors.answers import Answer
from germinal.progress import Reporter, silent
from germinal.storage import write_json

if TYPE_CHECKING:
    from germinal.language_model import LanguageModel
    from germinal.text.context_window import FittedPrompt

FILE = "predictor.json"
_FORMAT = 1


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


def load_predictor(folder: str | Path, lm: LanguageModel | None = None, reporter: Reporter = silent) -> Predictor:
    """Load a saved predictor of any kind.

    Args:
        folder: What `save` wrote.
        lm: The base model, if it is in memory already; otherwise it is found by the reference that the folder keeps.
        reporter: Hears of a base model's download.

    Raises:
        ModelNotFoundError: there is no predictor in the folder, or its base model cannot be found.
        CheckpointError: the folder is damaged, or the base model is not the one that the predictor was made with.
        UnsupportedError: it was written by a newer version.
    """
    folder = Path(folder)
    content = read_content(folder)
    kind = content.get("kind")
    if kind == "language-model":
        from germinal.predictors.language_model_predictor import LanguageModelPredictor

        return LanguageModelPredictor.load(folder, content, lm, reporter)
    if kind == "classifier":
        from germinal.predictors.classifier_predictor import ClassifierPredictor

        return ClassifierPredictor.load(folder, content, reporter)
    from germinal.predictors.baselines import BASELINES

    if kind not in BASELINES:
        raise UnsupportedError(f"holds a predictor of the unknown kind '{kind}'.", where=str(folder / FILE))
    try:
        return BASELINES[kind].load(folder, content)
    except (KeyError, TypeError, ValueError) as error:
        raise damaged(folder, error) from error


def write_content(folder: Path, kind: str, content: Mapping[str, Any]) -> None:
    """Write `predictor.json`."""
    write_json(folder / FILE, {"format": _FORMAT, "kind": kind, **content})


def read_content(folder: Path) -> dict[str, Any]:
    """Read `predictor.json`."""
    path = folder / FILE
    if not path.is_file():
        raise ModelNotFoundError("no saved predictor is here.", where=str(folder), hint=f"It would have a {FILE}.")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        written = content["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise damaged(folder, error) from error
    if written != _FORMAT:
        what = f"was written in format {written}, and this version reads format {_FORMAT}."
        raise UnsupportedError(what, where=str(path), hint="Use the version of germinal that wrote it, or a newer one.")
    return dict(content)


def damaged(folder: Path, error: Exception) -> CheckpointError:
    """The error of a folder that does not hold what it should."""
    return CheckpointError(f"the saved predictor is damaged: {error!r}.", where=str(folder))
