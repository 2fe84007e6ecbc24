"""An encoder with a head for classes as a predictor: it reads an input and says how likely each label is.

There is no prompt and no rule. The folder holds the whole model, as transformers reads it too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

from germinal.errors import CheckpointError, UnsupportedError
from germinal.language_model import LanguageModel, load
from germinal.predictors.answers import Answer
from germinal.predictors.folder import damaged, write_content
from germinal.progress import Progress, Reporter, silent
from germinal.storage import atomic_folder

MODEL = "model"
"""Where in a predictor's folder the model is."""


class ClassifierPredictor:
    """A model that classifies by its own head.

    Args:
        lm: Its classes exclude each other, and their names are the labels.

    Raises:
        UnsupportedError: it has no such head.
    """

    kind: ClassVar[str] = "classifier"

    def __init__(self, lm: LanguageModel) -> None:
        lm.reader.require_head("classify texts", "sequence-classification")
        if lm.readout.multi_label or len(lm.readout.labels) < 2:
            raise UnsupportedError("its classes do not exclude each other.", where=lm.card.name)
        self.lm = lm

    @property
    def labels(self) -> tuple[str, ...]:
        """In the order of the head's outputs."""
        return self.lm.readout.labels

    @property
    def parameters(self) -> int:
        """How many numbers were learned."""
        return self.lm.network.num_parameters()

    def num_tokens(self, inputs: Sequence[str]) -> int:
        """How many tokens the network reads to answer all inputs."""
        return sum(len(ids) for ids in self.lm.tokenizer.encode_batch(inputs))

    def predict(self, inputs: Sequence[str], reporter: Reporter = silent) -> list[Answer]:
        """An answer to each input, in their order.

        Raises:
            ContextWindowError: an input has more tokens than the model reads; the error names its place.
        """

        def report(progress: Progress) -> None:
            reporter(Progress("answer", progress.done, progress.total, "examples"))

        found = self.lm.classify(list(inputs), report)
        return [Answer(each.label, each.label, _summing_to_one(each.probabilities)) for each in found]

    def save(self, folder: Path) -> None:
        """Write the predictor as a folder, in the place of what stood there."""
        with atomic_folder(Path(folder)) as temporary:
            self.lm.save(temporary / MODEL)
            describe(temporary, self.lm)

    @classmethod
    def load(cls, folder: Path, content: Mapping[str, Any], reporter: Reporter = silent) -> Self:
        """Make the predictor that a folder keeps; use `load_predictor`."""
        try:
            fingerprint, labels = content["fingerprint"], tuple(content["labels"])
        except (KeyError, TypeError) as error:
            raise damaged(folder, error) from error
        lm = load(folder / MODEL, reporter=reporter)
        if lm.fingerprint != fingerprint or lm.readout.labels != labels:
            raise CheckpointError(
                "the model in it is not the one that was saved: weights or labels differ.", where=str(folder)
            )
        return cls(lm)


def _summing_to_one(probabilities: Mapping[str, float]) -> dict[str, float]:
    """Probabilities of float32, which sum to 1 less nearly than metrics ask for."""
    total = math.fsum(probabilities.values())
    return {label: probability / total for label, probability in probabilities.items()}


def describe(folder: Path, lm: LanguageModel) -> None:
    """Make a predictor's folder of one whose `model/` is already there: `lm`."""
    write_content(folder, ClassifierPredictor.kind, {"labels": lm.readout.labels, "fingerprint": lm.fingerprint})
