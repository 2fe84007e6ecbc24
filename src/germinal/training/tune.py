"""Tuning by examples, whatever the model: a LoRA adapter, or on an encoder a classification head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from germinal.errors import SettingError
from germinal.generation.config import GenerationConfig
from germinal.layers.lora_config import LoRAConfig
from germinal.predictors.answers import Labels
from germinal.predictors.language_model_predictor import LanguageModelPredictor
from germinal.progress import Reporter, silent
from germinal.text.prompt import Prompt
from germinal.training.classification import class_examples, tune_classifier
from germinal.training.config import HEAD_TRAINING, TrainingConfig
from germinal.training.examples import prompted_examples
from germinal.training.lora import tune_lora

if TYPE_CHECKING:
    from germinal.language_model import LanguageModel


@dataclass(frozen=True, slots=True)
class Tuned:
    """What tuning left.

    Attributes:
        path: The adapter as a PEFT folder, or the whole encoder as a Hugging Face folder.
        labels: The classes of an encoder; None of an adapter.
    """

    path: Path
    labels: tuple[str, ...] | None = None


def tune(
    lm: LanguageModel,
    pairs: Sequence[tuple[str, str]],
    folder: Path,
    *,
    prompt: Mapping[str, Any],
    lora: Mapping[str, Any],
    training: Mapping[str, Any],
    reporter: Reporter = silent,
) -> Tuned:
    """Tune a model on inputs and right answers. If it is killed, calling it again with the same arguments resumes it.

    Args:
        lm: An encoder gets a classification head and is trained whole; any other model gets an adapter.
        pairs: Inputs and right answers.
        folder: The run's folder, see `tune_lora` and `tune_classifier`.
        prompt: The fields of `Prompt` that do not keep their default.
        lora: Likewise, of `LoRAConfig`.
        training: Likewise, of `TrainingConfig`; the defaults for an encoder are those of `HEAD_TRAINING`.
        reporter: Called after every update.

    Raises:
        SettingError: a setting is out of range, has no effect on this model, or differs from those of the run that the
            folder holds; or the labels for an encoder are fewer than two, or differ in nothing but case and blanks.
        DataError, ContextWindowError: an example cannot be learned from.
        TrainingError: a loss is not finite.
    """
    if lm.config.stacks == "encoder":
        if names := [*prompt, *lora]:
            raise SettingError(
                "has no effect on an encoder.",
                where=names[0],
                hint="Its texts are read without a prompt, and all its weights are tuned.",
            )
        labels = Labels.of(label for _, label in pairs).names
        config = replace(HEAD_TRAINING, **training)
        model = tune_classifier(lm, class_examples(lm, pairs, labels), labels, config, folder, reporter)
        return Tuned(model, labels)
    # Prompts leave no room for answers here: whether the two fit together is known once both are token ids.
    predictor = LanguageModelPredictor(
        lm, Prompt(**prompt), None, "generate", generation=GenerationConfig(max_new_tokens=1)
    )
    examples = prompted_examples(predictor, pairs)
    return Tuned(tune_lora(lm, examples, LoRAConfig(**lora), TrainingConfig(**training), folder, reporter))
