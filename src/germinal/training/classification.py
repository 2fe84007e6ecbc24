"""Fine-tuning an encoder to classify: a new classification head, trained together with all other weights (Devlin et al.
2018, arXiv 1810.04805, section 3.2), but without dropout.

The result is a Hugging Face folder with the whole model, since all of its weights have changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from germinal.checkpoints.checkpoint import Checkpoint
from germinal.checkpoints.head_config import HeadConfig
from germinal.checkpoints.hf_folder import write_folder
from germinal.errors import ContextWindowError, DataError, UnsupportedError
from germinal.layers.adapters import base_state_dict
from germinal.models.config import TransformerConfig
from germinal.models.heads import SequenceClassificationHead
from germinal.models.transformer import Transformer
from germinal.objectives.classification import classification_loss
from germinal.predictors.classifier_predictor import read_inputs
from germinal.progress import Reporter, silent
from germinal.storage import digest, write_json
from germinal.text.context_window import ContextWindow
from germinal.training.config import TrainingConfig
from germinal.training.loop import train
from germinal.training.recipe import tuning_recipe
from germinal.training.run_folder import RunFolder
from germinal.training.shuffling import ShuffledData, padded

if TYPE_CHECKING:
    from germinal.language_model import LanguageModel

MODEL = "model"
"""The tuned model's folder in the run's folder."""

_FRESH_DEVIATION = 0.02  # of new weights, as in the published code
_POOLING_HEADS = ("pooler", "sequence-classification")  # whose `dense` layer a new head takes over


@dataclass(frozen=True, slots=True)
class ClassExample:
    """A text in token ids and the number of its class."""

    input_ids: tuple[int, ...]
    label: int

    @property
    def length(self) -> int:
        return len(self.input_ids)

    @property
    def content(self) -> tuple[object, ...]:
        return self.input_ids, self.label


def class_examples(
    lm: LanguageModel, pairs: Sequence[tuple[str, str]], labels: Sequence[str], window: ContextWindow | None = None
) -> list[ClassExample]:
    """Each input as an encoder reads it, and the number of its label.

    Args:
        pairs: Inputs and labels.
        labels: The names of the classes, by number.
        window: What to do when an input is longer than the model reads; by default an error.

    Raises:
        ContextWindowError: an input is too long, and the window does not cut it.
    """
    read = read_inputs(lm, [input for input, _ in pairs], window or ContextWindow(lm.reader.limit))
    return [ClassExample(fitted.ids, labels.index(label)) for fitted, (_, label) in zip(read, pairs, strict=True)]


@dataclass(frozen=True, slots=True)
class ClassBatch:
    """A batch of texts, padded on the right to the longest.

    Attributes:
        input_ids: [B, T].
        attention_mask: [B, T], 1 where a token is real.
        labels: [B].
        rows: Indices of the examples in the run's list.
        num_tokens: The number of real tokens.
        weight: B, the number of examples that the loss is summed over.
    """

    input_ids: Tensor
    attention_mask: Tensor
    labels: Tensor
    rows: tuple[int, ...]
    num_tokens: int
    weight: int


class ClassData(ShuffledData[ClassBatch]):
    """Texts and classes in micro-batches. The other arguments are those of `ShuffledData`.

    Args:
        pad_id: The padding token.
        device: The device of the batches.
    """

    def __init__(
        self, examples: Sequence[ClassExample], config: TrainingConfig, pad_id: int, device: torch.device | None = None
    ) -> None:
        super().__init__(
            examples,
            micro_batch_size=config.micro_batch_size,
            validation_fraction=config.validation_fraction,
            seed=config.seed,
        )
        self._texts = examples
        self._pad_id = pad_id
        self._device = device

    def collate(self, rows: Sequence[int]) -> ClassBatch:
        chosen = [self._texts[row] for row in rows]
        input_ids = padded([each.input_ids for each in chosen], self._pad_id)
        attention_mask = padded([(1,) * each.length for each in chosen], 0)
        labels = torch.tensor([each.label for each in chosen])
        return ClassBatch(
            input_ids=input_ids.to(self._device),
            attention_mask=attention_mask.to(self._device),
            labels=labels.to(self._device),
            rows=tuple(rows),
            num_tokens=sum(each.length for each in chosen),
            weight=len(chosen),
        )


def tune_classifier(
    lm: LanguageModel,
    examples: Sequence[ClassExample],
    labels: Sequence[str],
    config: TrainingConfig,
    folder: Path,
    reporter: Reporter = silent,
) -> Path:
    """Train a copy of `lm` with a classification head, and write it as a Hugging Face folder.

    `lm` is not changed. Training is in float32, since updates of a few thousandths of a percent would be lost in
    bfloat16; the folder has `lm`'s precision. If it is killed, calling it again with the same arguments resumes it;
    once it is done, another call returns at once.

    Args:
        lm: An encoder.
        examples: Texts and classes, in any order.
        labels: The names of the classes, in the order of their numbers.
        config: The settings of the training.
        folder: The run's folder: the model in `model/`, one line per update in `history.jsonl`, the outcome in
            `result.json`; checkpoints while it runs.
        reporter: Called after every update.

    Returns:
        The model's folder, with the weights of the best validation loss.

    Raises:
        UnsupportedError: `lm` is not an encoder.
        DataError, ContextWindowError: an example cannot be learned from.
        SettingError: the folder holds another run.
        TrainingError: a loss is not finite.
    """
    require_encoder(lm)
    check_class_examples(examples, labels, lm.config)
    seen = digest([[example.input_ids, example.label] for example in examples])
    recipe = tuning_recipe(lm, config, examples=seen, labels=list(labels))
    run = RunFolder(folder, recipe)
    if (folder / "result.json").exists() and (folder / MODEL).is_dir():
        return folder / MODEL
    network = with_class_head(lm.network, len(labels), config.seed)
    data = ClassData(examples, config, lm.tokenizer.filler_id, network.device)
    result = train(network, class_loss, data, config, folder, reporter, recipe=recipe, task="tune")
    tuned = Checkpoint(
        config=network.config,
        family=lm.family,
        state_dict={name: tensor.to(lm.network.dtype) for name, tensor in network.state_dict().items()},
        tokenizer=lm.tokenizer,
        card=replace(lm.card, name=f"{lm.card.name}, tuned to classify", base_model=lm.card.source),
        head_config=HeadConfig(labels=tuple(labels)),
    )
    write_folder(folder / MODEL, tuned)
    write_json(folder / "result.json", result.summary())
    run.remove_checkpoints()
    return folder / MODEL


def require_encoder(lm: LanguageModel) -> None:
    """Refuse a model that cannot be given a classification head.

    Raises:
        UnsupportedError: it is a decoder or an encoder-decoder.
    """
    if lm.config.stacks != "encoder":
        raise UnsupportedError(
            f"{lm.card.name} has a {lm.config.stacks} architecture.",
            hint="Only encoders get a classification head. Prompt other models, or tune them with LoRA.",
        )


def check_class_examples(examples: Sequence[ClassExample], labels: Sequence[str], config: TransformerConfig) -> None:
    """Refuse examples that cannot be learned from, before training.

    Raises:
        DataError: there are no examples, or fewer than two classes, or an example has no tokens or an unknown class.
        ContextWindowError: an example is longer than the context window.
    """
    if not examples:
        raise DataError("there are no examples.", where="training examples")
    if len(labels) < 2:
        raise DataError(f"at least two are needed, and there are {len(labels)}.", where="labels")
    for row, example in enumerate(examples):
        where = f"training example {row}"
        if not example.input_ids or not 0 <= example.label < len(labels):
            missing = "has no tokens." if not example.input_ids else f"is of class {example.label} of {len(labels)}."
            raise DataError(missing, where=where)
        if example.length > config.max_position_embeddings:
            raise ContextWindowError(
                f"has {example.length:,} tokens; the context window holds {config.max_position_embeddings:,}.",
                where=where,
                hint="Shorten or leave out such examples.",
            )


def with_class_head(network: Transformer, num_labels: int, seed: int) -> Transformer:
    """A float32 copy of an encoder with a new classification head; all weights require a gradient.

    The dense layer of the head is the pooler's, if the model has one. New matrices are drawn from a normal distribution
    of standard deviation 0.02; new biases are zero.
    """
    config = replace(network.config, head="sequence-classification", num_labels=num_labels)
    pools = network.config.head in _POOLING_HEADS
    known = {
        name: tensor.detach().to(torch.float32, copy=True)
        for name, tensor in base_state_dict(network).items()
        if name.startswith(("embed_", "encoder.")) or (pools and name.startswith("head.dense."))
    }
    copy = Transformer(config, device="meta")
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in copy.state_dict().items():
        if name not in known:
            fresh = torch.zeros(parameter.shape)
            known[name] = fresh.normal_(0, _FRESH_DEVIATION, generator=generator) if fresh.dim() > 1 else fresh
    copy.load_state_dict(known, assign=True)
    return copy.requires_grad_(True).to(network.device)


def class_loss(network: nn.Module, batch: ClassBatch) -> Tensor:
    """Summed cross-entropy of a batch's classes."""
    assert isinstance(network, Transformer)
    assert isinstance(network.head, SequenceClassificationHead)
    hidden_states = network(batch.input_ids, batch.attention_mask)
    return classification_loss(network.head(hidden_states, batch.attention_mask), batch.labels)
