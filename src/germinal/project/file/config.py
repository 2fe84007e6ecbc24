"""germinal.toml as typed, validated data: one source for the file, the command line's --set, and the published schema.

The docstring under a key says what it means, and becomes its description in the schema, which editors show.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from germinal.errors import GerminalError
from germinal.generation.config import GenerationConfig
from germinal.layers.lora_config import LoRAConfig
from germinal.predictors.answers import Rule
from germinal.project.file.tasks import Baseline, Task, fill_in
from germinal.text.context_window import Policy, Side
from germinal.training.config import TrainingConfig

Precision = Literal["float32", "bfloat16"]
Calibration = Literal["batch", "content-free"]
Epochs = Annotated[int, Field(ge=1, description="Times that every training example is seen.")]
MicroBatchSize = Annotated[int, Field(ge=1, description="Examples that go through the network at once.")]
LearningRate = Annotated[float, Field(gt=0, strict=False, description="Highest learning rate of AdamW.")]
TruncateSide = Annotated[Side, Field(description="The end at which truncate_input cuts the input.")]
SplitSize = Annotated[int, Field(ge=1, strict=True)] | Annotated[float, Field(gt=0, lt=1, strict=True)]


_WITHOUT_EFFECT = ("n", "logprobs")


class _Table(BaseModel):
    """A table of germinal.toml: unknown keys are errors, values are not coerced from other types."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, strict=True)


class SplitSizes(_Table):
    """How many rows are held out. The rest trains."""

    dev: SplitSize
    """Rows on which every trial is measured and the winner is chosen: a count, or a share of all rows."""
    test: SplitSize
    """Rows on which only the winner and the baselines are measured: a count, or a share of all rows."""


class Limits(_Table):
    """What the winner may cost. A run reports whether it stays within."""

    memory_gb: Annotated[float, Field(gt=0, strict=False)] | None = None
    """Peak memory, in GB of 10^9 bytes."""
    latency_ms: Annotated[float, Field(gt=0, strict=False)] | None = None
    """Time of one answer, in milliseconds."""


class Scope(_Table):
    """What the use case is, and how "good" is measured."""

    use_case: str = ""
    """One sentence that says what the model is for."""
    task: Task = "classification"
    """The kind of answer: a label for a classification, a text for any other task ("code" and "chat" are to come)."""
    data: Annotated[str, Field(min_length=1)]
    """A csv, tsv, jsonl or parquet file; a relative path starts at germinal.toml."""
    input: Annotated[str, Field(min_length=1)]
    """The column that holds the input."""
    target: Annotated[str, Field(min_length=1)]
    """The column that holds the right answer."""
    group: str | None = None
    """A column that names the source of a row; rows of one source stay in one split, as near-duplicates do anyway."""
    labels: dict[str, str] = {}
    """Words that stand for labels in prompts and answers, where they are not the labels: { pos = "Positive" }."""
    duplicates: Literal["error", "drop"] = "error"
    """What to do about rows that repeat another one."""
    split: SplitSizes
    """Rows go to splits by a hash of their content, or of their group, never by their place in the file."""
    metrics: Annotated[list[str], Field(min_length=1)] = ["accuracy"]
    """What is measured; the first decides the winner. For texts, by task: rougeL, rouge1, rouge2, chrf, bleu, ..."""
    success: dict[str, Annotated[float, Field(strict=False)]] = {}
    """What a metric must reach on test for the run to be a success: success = { accuracy = 0.8 }."""
    limits: Limits = Limits()
    """What the winner may cost."""


class Select(_Table):
    """Which models are tried, and which plain baselines they have to beat."""

    models: list[Annotated[str, Field(min_length=1)]] = []
    """Aliases (`germinal models` lists them), folders, .gguf files, hf:org/name[@revision] or pypi:package/file."""
    baselines: list[Baseline] = ["majority", "tfidf"]
    """Plain methods that a language model has to beat. For texts, by task: lead, copy, nearest."""


class PromptSettings(_Table):
    """How an input becomes a prompt, and a model's output an answer."""

    instruction: str = ""
    """The first line of the prompt."""
    answer: str = ""
    """The last line, after which the answer starts."""
    chat: bool = False
    """Whether the prompt goes through the model's chat template."""
    separator: str = "\n\n"
    """What stands between worked examples, and ends a generated text."""
    shots: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)] = [0]
    """How many worked examples from the training split to show; each number is a candidate."""
    shot_seeds: Annotated[list[int], Field(min_length=1)] = [0]
    """Seeds of the choice of examples. Each seed is a replicate of a candidate, not a candidate of its own."""
    rules: Annotated[list[Rule], Field(min_length=1)] = ["generate", "likelihood", "calibrated"]
    """How a label is read: from the text, from each label's likelihood, or with each label's prior divided out. A text
    is always generated."""
    calibration: Calibration = "batch"
    """Where priors come from: training inputs (arXiv 2309.17249) or inputs without content (arXiv 2102.09690)."""
    overflow: Policy = "error"
    """What happens to a prompt that does not fit the model's context window."""
    truncate_side: TruncateSide = "right"


class TrainingSettings(_Table):
    """How something is tuned."""

    # Names and defaults are those of `TrainingConfig`.

    epochs: Epochs = 1
    max_examples: Annotated[int, Field(ge=2)] | None = None
    """Tune on at most this many rows of the training split, those that rank first by hash."""
    micro_batch_size: MicroBatchSize = 8
    gradient_accumulation_steps: Annotated[int, Field(ge=1)] = 1
    """Micro-batches to one update."""
    learning_rate: LearningRate = 1e-3
    schedule: Literal["constant", "linear", "cosine"] = "cosine"
    """How the learning rate falls after the warm-up."""
    warmup_steps: Annotated[int, Field(ge=0)] | None = None
    """Updates in which the learning rate rises from zero; 5% of all when absent."""
    weight_decay: Annotated[float, Field(ge=0, strict=False)] = 0.0
    """Decoupled weight decay."""
    max_grad_norm: Annotated[float, Field(gt=0, strict=False)] | None = 1.0
    """A gradient of a larger norm is scaled down to it."""
    validation_fraction: Annotated[float, Field(ge=0, lt=1, strict=False)] = 0.1
    """Share of the training rows that is held out to choose the best checkpoint."""

    def training_config(self, seed: int, save_every: int) -> TrainingConfig:
        """These settings as the training loop takes them.

        Args:
            seed: The project's.
            save_every: Updates between two checkpoints.
        """
        shared = self.model_dump(include={field.name for field in fields(TrainingConfig)})
        return TrainingConfig(**shared, seed=seed, save_every=save_every)


class LoRASettings(TrainingSettings):
    """Low-rank adaptation (LoRA) on the zero-shot prompt, the loss on the answers only."""

    # Names and defaults are those of `LoRAConfig`.

    rank: Annotated[int, Field(ge=1)] = 8
    """Inner width of the update."""
    alpha: Annotated[float, Field(gt=0, strict=False)] = 16.0
    """The update is multiplied by alpha / rank."""
    dropout: Annotated[float, Field(ge=0, lt=1, strict=False)] = 0.0
    """Probability of dropping an input of the update while training."""
    target_modules: Annotated[list[str], Field(min_length=1)] = ["q_proj", "v_proj"]
    """Names of the adapted linear layers, or ["all-linear"]."""
    layers: list[Annotated[int, Field(ge=0)]] | None = None
    """Indices of the adapted blocks; all of them when absent. Upper blocks alone train faster."""

    def lora_config(self) -> LoRAConfig:
        """Size and place of the adapter, as the layers take them."""
        return LoRAConfig(
            rank=self.rank,
            alpha=self.alpha,
            dropout=self.dropout,
            target_modules=tuple(self.target_modules),
            layers=None if self.layers is None else tuple(self.layers),
        )


class HeadSettings(TrainingSettings):
    """A classification head on encoders, tuned together with all their weights. Inputs are read without a prompt."""

    models: list[str]
    """The encoders among select.models that get a head; they are not prompted."""
    epochs: Epochs = 3
    micro_batch_size: MicroBatchSize = 16
    learning_rate: LearningRate = 5e-5
    overflow: Literal["error", "truncate_input"] = "error"
    """What happens to an input of more tokens than the model reads."""
    truncate_side: TruncateSide = "right"


class Adapt(_Table):
    """How models are adapted to the use case."""

    prompt: PromptSettings = PromptSettings()
    """In-context: instruction, worked examples, answer rules."""
    lora: LoRASettings | None = None
    """Fine-tuning of a small adapter; without this table there is none."""
    head: HeadSettings | None = None
    """A classification head on encoders; without this table there is none."""


class Apply(_Table):
    """How models run."""

    precisions: Annotated[list[Precision], Field(min_length=1)] = ["float32"]
    """Number formats of the weights; each is a candidate."""
    generation: dict[str, Any] = {}
    """Generation settings of the rule "generate", such as max_new_tokens (128 for texts); greedy by default."""

    @field_validator("generation")
    @classmethod
    def _generation_is_valid(cls, value: dict[str, Any]) -> dict[str, Any]:
        for name in _WITHOUT_EFFECT:
            if name in value:
                raise ValueError(f"{name} has no effect here: each row is answered once, by its text.")
        try:
            GenerationConfig.from_settings(value)
        except GerminalError as error:
            raise ValueError(f"{error.what} {error.hint or ''}".strip()) from error
        return value


class ProjectConfig(_Table):
    """A use case, from its data to the model that is served."""

    seed: int = 0
    """The seed of everything that draws at random."""
    scope: Scope
    """What is it for, and how is "good" measured?"""
    select: Select = Select()
    """Which models are tried?"""
    adapt: Adapt = Adapt()
    """How are they prompted and tuned?"""
    apply: Apply = Apply()
    """How do they run?"""

    @model_validator(mode="before")
    @classmethod
    def _as_the_task_implies(cls, values: Any) -> Any:
        return fill_in(values)

    @property
    def headed(self) -> list[str]:
        """The models that get a head instead of prompts."""
        return [] if self.adapt.head is None else self.adapt.head.models

    @property
    def generation(self) -> dict[str, Any]:
        """The generation settings; sampling follows the project's seed unless they name one."""
        settings = self.apply.generation
        return {"seed": self.seed, **settings} if settings.get("temperature") else settings

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        lists: dict[str, Sequence[object]] = {
            "select.models": self.select.models,
            "select.baselines": self.select.baselines,
            "scope.metrics": self.scope.metrics,
            "adapt.prompt.shots": self.adapt.prompt.shots,
            "adapt.prompt.shot_seeds": self.adapt.prompt.shot_seeds,
            "adapt.prompt.rules": self.adapt.prompt.rules,
            "adapt.head.models": self.headed,
            "apply.precisions": self.apply.precisions,
        }
        for key, values in lists.items():
            if len({str(value) for value in values}) < len(values):
                raise ValueError(f"{key} names something twice.")
        if not self.select.models and not self.select.baselines:
            raise ValueError("select.models and select.baselines are both empty: there is nothing to try.")
        return self
