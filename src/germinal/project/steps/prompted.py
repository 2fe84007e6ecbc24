"""What the steps that prompt a language model have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from germinal.data import Row
from germinal.errors import DataError
from germinal.language_model import LanguageModel
from germinal.ledger.records import StepRecord
from germinal.predictors.answers import Labels, Rule
from germinal.predictors.language_model_predictor import LanguageModelPredictor
from germinal.project.file.config import PromptSettings
from germinal.project.steps.base import Dependency, Step, StepContext, artifact_of
from germinal.project.steps.data import DataStep
from germinal.project.steps.examples import ExamplesStep
from germinal.project.steps.model import ModelStep, short_name
from germinal.project.steps.rows import Identity
from germinal.text.context_window import ContextWindow
from germinal.text.prompt import Example, Prompt

CHAT_ANSWERS = 2
"""Version of which tokens an answer in a chat is made of."""

ADAPTER = "adapter"
"""The name of the PEFT folder in a tune step's artifact."""


@dataclass(frozen=True)
class PromptSpec:
    """What a project says of prompts.

    Attributes:
        settings: [adapt.prompt].
        words: Label -> the word that stands for it, where that is not the label.
    """

    settings: PromptSettings
    words: Mapping[str, str]

    @property
    def prompt(self) -> Prompt:
        kept = self.settings
        return Prompt(kept.instruction, kept.answer, kept.chat, kept.separator)

    def labels(self, names: Sequence[str]) -> Labels | None:
        """Labels with the words that stand for them; None where there are no labels, as answers are texts."""
        return Labels.of(names, self.words) if names else None

    def key_parts(self) -> dict[str, Any]:
        """What affects the text of a prompt."""
        kept = self.settings
        side = kept.truncate_side if kept.overflow == "truncate_input" else None
        # Plain prompts have the keys that they had before there were versions.
        answers = {"answers": CHAT_ANSWERS} if kept.chat else {}
        return answers | {
            "instruction": kept.instruction,
            "answer": kept.answer,
            "chat": kept.chat,
            "separator": kept.separator,
            "words": {label: word.strip() for label, word in self.words.items()},
            "overflow": kept.overflow,
            "truncate_side": side,
        }


@dataclass(frozen=True)
class PromptedStep(Step):
    """A step that prompts a model, perhaps with worked examples and an adapter."""

    data: DataStep
    model: ModelStep
    prompt_spec: PromptSpec
    examples: ExamplesStep | None
    tune: Step | None

    def dependencies(self) -> Mapping[str, Dependency]:
        found = {
            "labels": Dependency(self.data, "labels"),
            "weights": Dependency(self.model, "weights"),
            "tokenizer": Dependency(self.model, "tokenizer"),
        }
        if self.examples is not None:
            found["examples"] = Dependency(self.examples, "examples")
        if self.tune is not None:
            found["adapter"] = Dependency(self.tune, "adapter")
        return found

    @property
    def title(self) -> str:
        """Whose answers these are, for a reader of the plan."""
        shots = f"{self.examples.shots}-shot, seed {self.examples.seed}" if self.examples else "zero-shot"
        return f"{short_name(self.model.reference)}, {'tuned, ' if self.tune else ''}{shots}"

    def predictor(self, context: StepContext, generation: Mapping[str, Any]) -> LanguageModelPredictor:
        """The model with this prompt. It has any rule: only its outputs are used."""
        tuned = context.inputs["adapter"] if self.tune else None
        return make_predictor(
            context.models.get(self.model.reference, self.model.precision),
            self.prompt_spec,
            self.prompt_spec.labels(context.inputs["labels"].values["labels"]),
            pairs=context.inputs["examples"].values["examples"] if self.examples else (),
            adapter=adapter_folder(tuned, context.artifact.parent) if tuned else None,
            generation=generation,
        )

    def identity(self, context: StepContext) -> Identity:
        """What the outputs depend on beside the prompt."""
        adapter = context.inputs["adapter"].outputs["adapter"] if self.tune else None
        return Identity(context.inputs["weights"].outputs["weights"], adapter, self.model.precision)


def check_targets(predictor: LanguageModelPredictor, rows: Sequence[Row]) -> None:
    """Refuse right answers that the model cannot give, as its text would end before they do.

    Raises:
        DataError: a target contains the text that ends an answer.
    """
    if predictor.ending is None or predictor.ending not in predictor.generation.stop:
        return
    longer = [row for row in rows if predictor.ending in row.target]
    if longer:
        shown = longer[0].target if len(longer[0].target) <= 60 else longer[0].target[:57] + "..."
        what = f"{len(longer)} of {len(rows)} targets contain the separator {predictor.ending!r}, which ends an answer"
        hint = "Choose a separator that no target contains, such as '\\n###\\n', or set chat = true."
        raise DataError(f"{what}: {shown!r}.", where="adapt.prompt.separator", hint=hint)


def adapter_folder(tuned: StepRecord, artifacts: Path) -> Path:
    """The PEFT folder that a finished tune step left; errors are those of `artifact_of`."""
    return artifact_of(tuned, artifacts) / ADAPTER


def make_predictor(
    lm: LanguageModel,
    prompt_spec: PromptSpec,
    labels: Labels | None,
    *,
    pairs: Sequence[Sequence[str]] = (),
    adapter: Path | None = None,
    generation: Mapping[str, Any] | None = None,
    rule: Rule | None = None,
    priors: Mapping[str, float] | None = None,
) -> LanguageModelPredictor:
    """A model with a project's prompt, as a predictor.

    Args:
        labels: None where answers are texts.
        pairs: Worked examples: inputs with their labels, or texts.
        adapter: A PEFT folder.
        generation: Settings of [apply.generation], over the predictor's defaults.
        rule: None for callers that only use outputs.
        priors: For the rule "calibrated".
    """
    settings = prompt_spec.settings
    predictor = LanguageModelPredictor(
        lm,
        prompt_spec.prompt,
        labels,
        rule or ("generate" if labels is None else "likelihood"),
        examples=[Example(text, target if labels is None else labels.words[target]) for text, target in pairs],
        priors=priors,
        window=ContextWindow(
            lm.config.max_position_embeddings, settings.overflow, settings.truncate_side, two_stacks=lm.two_stacks
        ),
        adapter=adapter,
    )
    if generation:
        predictor.generation = predictor.generation.override(**generation)
    return predictor
