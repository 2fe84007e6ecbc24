"""A model with a head for classes as a predictor: it reads an input and gives each label a probability.

There is no prompt and no answer rule. The folder holds the whole model, in the form that transformers reads too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, ClassVar, Self

from germinal.errors import CheckpointError, ContextWindowError, SettingError, UnsupportedError
from germinal.language_model import LanguageModel
from germinal.loading import load
from germinal.predictors.answers import Answer
from germinal.predictors.folder import Shape, damaged, typed, write_content
from germinal.progress import Progress, Reporter, silent
from germinal.storage import atomic_folder
from germinal.text.context_window import ContextWindow, FittedPrompt
from germinal.text.prompt import Prompt

MODEL = "model"
"""The model's folder inside the predictor's."""

_BARE = Prompt()


class _Saved(Shape):
    fingerprint: str
    labels: list[str]
    name: str
    window: ContextWindow


class ClassifierPredictor:
    """A model that classifies with its own head.

    Args:
        lm: The model. Its classes exclude each other, and their names are the labels.
        window: What to do with an input that is longer than the model reads; an error by default.

    Raises:
        UnsupportedError: the model has no such head.
    """

    kind: ClassVar[str] = "classifier"

    def __init__(self, lm: LanguageModel, window: ContextWindow | None = None) -> None:
        lm.reader.require_head("classify texts", "sequence-classification")
        if lm.head_config.multi_label or len(lm.head_config.labels) < 2:
            raise UnsupportedError("it does not have two or more classes that exclude each other.", where=lm.card.name)
        self.lm = lm
        self.window = window or ContextWindow(lm.reader.limit)

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels, in the order of the head's outputs."""
        return self.lm.head_config.labels

    @property
    def parameters(self) -> int:
        """How many numbers were learned."""
        return self.lm.network.num_parameters()

    def read(self, inputs: Sequence[str]) -> list[FittedPrompt]:
        """The inputs as the network reads them.

        Raises:
            ContextWindowError: an input has too many tokens, and the window's policy is not to cut it.
        """
        return read_inputs(self.lm, inputs, self.window)

    def predict(self, inputs: Sequence[str], reporter: Reporter = silent) -> list[Answer]:
        """An answer to each input, in their order.

        Raises:
            ContextWindowError: as of `read`.
        """

        def report(progress: Progress) -> None:
            reporter(Progress("answer", progress.done, progress.total, "examples"))

        found = self.lm.classify([each.text for each in self.read(inputs)], report)
        return [Answer(each.label, each.label, _summing_to_one(each.probabilities)) for each in found]

    def save(self, folder: Path) -> None:
        """Write the predictor as a folder, which replaces what stood there."""
        with atomic_folder(Path(folder)) as temporary:
            self.lm.save(temporary / MODEL)
            describe(temporary, self.lm, self.window)

    @classmethod
    def load(cls, folder: Path, content: Mapping[str, Any], reporter: Reporter = silent) -> Self:
        """The predictor in a folder; called by `load_predictor`.

        Raises:
            CheckpointError: the folder is damaged, or holds another model than was saved.
        """
        try:
            saved = typed(content, _Saved, folder)
        except SettingError as error:
            raise damaged(folder, error) from error
        lm = load(folder / MODEL, reporter=reporter)
        if lm.fingerprint != saved.fingerprint or lm.head_config.labels != tuple(saved.labels):
            raise CheckpointError("it holds another model than was saved: weights or labels differ.", where=str(folder))
        lm.card = replace(lm.card, name=saved.name)
        return cls(lm, saved.window)


def read_inputs(lm: LanguageModel, inputs: Sequence[str], window: ContextWindow) -> list[FittedPrompt]:
    """Inputs as a model with a head reads them: bare, with the tokenizer's own special tokens.

    Raises:
        ContextWindowError: as of `ClassifierPredictor.read`; names the input's place.
    """
    read = []
    for place, input in enumerate(inputs, start=1):
        try:
            read.append(window.fit(_BARE, input, tokenizer=lm.tokenizer, answered=False))
        except ContextWindowError as error:
            raise ContextWindowError(
                f"has {len(lm.tokenizer.encode(input)):,} tokens, and {lm.card.name} reads {window.size:,}.",
                where=f"input {place} of {len(inputs)}",
                hint="Shorten it, or let it be cut (in a project: overflow under [adapt.head]).",
            ) from error
    return read


def _summing_to_one(probabilities: Mapping[str, float]) -> dict[str, float]:
    """Probabilities that sum to 1 as closely as metrics require; in float32 they do not."""
    total = math.fsum(probabilities.values())
    return {label: probability / total for label, probability in probabilities.items()}


def describe(folder: Path, lm: LanguageModel, window: ContextWindow) -> None:
    """Write what a predictor's folder holds beside its model, `lm`, which is already there."""
    content = {
        "name": lm.card.name,
        "labels": lm.head_config.labels,
        "window": asdict(window),
        "fingerprint": lm.fingerprint,
    }
    write_content(folder, ClassifierPredictor.kind, content)
