"""Tuning an encoder to classify: a fresh head for classes, trained with all weights under it (Devlin et al. 2018, arXiv
1810.04805, section 3.2). There is no dropout.

The result is a Hugging Face folder of its own: what was learned is as large as the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from germinal.checkpoints.checkpoint import Checkpoint
from germinal.checkpoints.head_config import HeadConfig
from germinal.checkpoints.hf_folder import write_folder
from germinal.errors import ContextWindowError, DataError, UnsupportedError
from germinal.layers.linear import base_state_dict
from germinal.models.config import TransformerConfig
from germinal.models.heads import SequenceClassificationHead
from germinal.models.transformer import Transformer
from germinal.objectives.classification import classification_loss
from germinal.progress import Reporter, silent
from germinal.storage import digest, write_json
from germinal.training.config import TrainingConfig
from germinal.training.loop import train
from germinal.training.run_folder import RunFolder
from germinal.training.shuffling import ShuffledData, padded

if TYPE_CHECKING:
    from germinal.language_model import LanguageModel

MODEL = "model"
"""Where in its folder a run leaves the tuned model."""

HEAD_TRAINING = TrainingConfig(epochs=3, micro_batch_size=16, learning_rate=5e-5)
"""What is good for most encoders and some thousand examples."""

_FRESH_DEVIATION = 0.02  # of fresh weights, as in the published code
_POOLING_HEADS = ("pooler", "sequence-classification")  # whose `dense` is the layer that a new head has too


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


@dataclass(frozen=True, slots=True)
class ClassBatch:
    """Texts side by side, padded on the right to the longest.

    Attributes:
        input_ids: [B, T].
        attention_mask: [B, T], 1 where a token is real.
        labels: [B].
        rows: Places of the examples in the list that the run was given.
        num_tokens: Real tokens.
        weight: B, which the loss is summed over.
    """

    input_ids: Tensor
    attention_mask: Tensor
    labels: Tensor
    rows: tuple[int, ...]
    num_tokens: int
    weight: int


class ClassData(ShuffledData[ClassBatch]):
    """Texts and classes in micro-batches; the arguments beside these are those of `ShuffledData`.

    Args:
        pad_id: Fills the end of short rows.
        device: Where batches are put.
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
    """Train a copy of `lm` with a head for classes, and write it as a Hugging Face folder.

    `lm` stays as it is. Training is in float32 whatever its precision, which the folder has again: updates of a few
    thousandths of a percent would be lost in bfloat16. Killed and called again with the same arguments, it goes on;
    called when it is done, it returns at once.

    Args:
        lm: An encoder.
        examples: Texts and classes, in any order.
        labels: The names of the classes, by number.
        config: How to train.
        folder: The run's own: the model in `model/`, one line an update in `history.jsonl`, the outcome in
            `result.json`; checkpoints while it runs.
        reporter: Told of every update.

    Returns:
        The model's folder. It holds the weights of the best validation loss.

    Raises:
        UnsupportedError: `lm` is no encoder.
        DataError, ContextWindowError: an example cannot be learned from.
        SettingError: the folder holds another run.
        TrainingError: a loss is not finite.
    """
    require_encoder(lm)
    check_class_examples(examples, labels, lm.config)
    recipe = {
        "base": lm.fingerprint,
        "precision": lm.precision,
        "examples": digest([[example.input_ids, example.label] for example in examples]),
        "labels": list(labels),
        **asdict(config),
    }
    del recipe["save_every"]  # when checkpoints are written does not bear on what is in them
    run = RunFolder(folder, recipe)
    if (folder / "result.json").exists() and (folder / MODEL).is_dir():
        return folder / MODEL
    network = with_class_head(lm.network, len(labels), config.seed)
    data = ClassData(examples, config, lm.tokenizer.pad_id or 0, network.device)
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
    """Refuse a model that a head for classes cannot stand on.

    Raises:
        UnsupportedError: it is a decoder or an encoder-decoder.
    """
    if lm.config.stacks != "encoder":
        raise UnsupportedError(
            f"{lm.card.name} is no encoder but {'a' if lm.config.stacks == 'decoder' else 'an'} {lm.config.stacks}.",
            hint="A head for classes stands on encoders; other models are prompted, or tuned with LoRA.",
        )


def check_class_examples(examples: Sequence[ClassExample], labels: Sequence[str], config: TransformerConfig) -> None:
    """Refuse, before anything is trained, examples that cannot be learned from.

    Raises:
        DataError: there are none, or fewer than two classes, or one has no tokens or an unknown class.
        ContextWindowError: one is longer than the model reads.
    """
    if not examples:
        raise DataError("there is no example to learn from.", where="training examples")
    if len(labels) < 2:
        raise DataError(f"{len(labels)} labels cannot be told apart.", where="labels", hint="Two are needed.")
    for row, example in enumerate(examples):
        where = f"training example {row}"
        if not example.input_ids or not 0 <= example.label < len(labels):
            missing = "has no tokens." if not example.input_ids else f"is of class {example.label} of {len(labels)}."
            raise DataError(missing, where=where)
        if example.length > config.max_position_embeddings:
            raise ContextWindowError(
                f"has {example.length:,} tokens; the model reads {config.max_position_embeddings:,}.",
                where=where,
                hint="Shorten or leave out such examples.",
            )


def with_class_head(network: Transformer, num_labels: int, seed: int) -> Transformer:
    """A float32 copy of an encoder with a fresh head for classes, all of which requires a gradient.

    The layer that looks at the first token is taken over where the checkpoint has one; what is fresh is drawn from a
    normal distribution of deviation 0.02, biases are zero.
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
    """Summed cross-entropy of the classes of a batch."""
    assert isinstance(network, Transformer)
    assert isinstance(network.head, SequenceClassificationHead)
    hidden_states = network(batch.input_ids, batch.attention_mask)
    return classification_loss(network.head(hidden_states, batch.attention_mask), batch.labels)
