"""How a checkpoint's outputs are interpreted: the labels of classes, the tokens its head depends on, the pooling."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from germinal.checkpoints.sentence_vectors import Pooling, read_pooling
from germinal.errors import CheckpointError
from germinal.models.config import TransformerConfig

_SINGLE_LABEL, _MULTI_LABEL, _REGRESSION = "single_label_classification", "multi_label_classification", "regression"


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadConfig:
    """How the outputs of a network are interpreted.

    Attributes:
        labels: The name of each class, in the order of the head's outputs.
        multi_label: Whether a text can have several classes.
        regression: Whether the outputs are numbers rather than scores of classes.
        padding_id: The padding token, which a head that uses a decoder's last token skips.
        start_id: The token that an encoder-decoder's decoder reads before the text that a head classifies.
        pooling: How hidden states become the vector of a text, if the checkpoint says.
    """

    labels: tuple[str, ...] = ()
    multi_label: bool = False
    regression: bool = False
    padding_id: int | None = None
    start_id: int | None = None
    pooling: Pooling | None = None


def read_head_config(folder: Path, published: Mapping[str, Any], config: TransformerConfig) -> HeadConfig:
    """Read the head config of a folder.

    Args:
        folder: The folder.
        published: Its config.json.
        config: The config made from that.

    Raises:
        CheckpointError: the head has another number of outputs than there are labels, or a file is malformed.
        UnsupportedError: the pooling uses a module that is not supported.
    """
    last = config.head == "sequence-classification" and config.pooled_token == "last"
    two_stacks = config.stacks == "encoder-decoder"
    problem = _problem(published, config)
    return HeadConfig(
        labels=_labels(published, config.num_labels),
        multi_label=problem == _MULTI_LABEL,
        regression=problem == _REGRESSION,
        padding_id=_id(published, "pad_token_id") if last and not two_stacks else None,
        start_id=_id(published, "decoder_start_token_id") if last and two_stacks else None,
        pooling=read_pooling(folder, config.hidden_size),
    )


def _problem(published: Mapping[str, Any], config: TransformerConfig) -> str | None:
    """What the outputs of a head for whole texts are; None where the number of labels decides."""
    problem = published.get("problem_type")
    if config.head != "sequence-classification" or problem is None:
        return None
    if problem not in (_SINGLE_LABEL, _MULTI_LABEL, _REGRESSION):
        known = f"{_SINGLE_LABEL}, {_MULTI_LABEL}, {_REGRESSION}"
        raise CheckpointError(f"must be one of {known}, not {problem!r:.40}.", where="config.json: problem_type")
    if problem == _SINGLE_LABEL and config.num_labels == 1:
        what = f"is {problem}, and the head has one output."
        raise CheckpointError(what, where="config.json: problem_type", hint=f"{_REGRESSION} gives it as a number.")
    return str(problem)


def head_config_to_hf(head_config: HeadConfig, config: TransformerConfig) -> dict[str, Any]:
    """The head config as fields of config.json; the pooling has files of its own."""
    fields: dict[str, Any] = {}
    if config.num_labels and len(head_config.labels) == config.num_labels:
        fields["id2label"] = {str(number): label for number, label in enumerate(head_config.labels)}
        fields["label2id"] = {label: number for number, label in enumerate(head_config.labels)}
    if head_config.multi_label or head_config.regression:
        fields["problem_type"] = _MULTI_LABEL if head_config.multi_label else _REGRESSION
    if config.head == "sequence-classification" and config.pooled_token == "last":
        if config.stacks == "encoder-decoder":
            fields["decoder_start_token_id"] = head_config.start_id
        else:
            fields["pad_token_id"] = head_config.padding_id
    return fields


def _id(published: Mapping[str, Any], key: str) -> int | None:
    id = published.get(key)
    if id is not None and (not isinstance(id, int) or isinstance(id, bool)):
        raise CheckpointError(f"must be a token id, not {id!r}.", where=f"config.json: {key}")
    return id


def _labels(published: Mapping[str, Any], num_labels: int) -> tuple[str, ...]:
    """The names of `id2label`; transformers' own where there is none, or another number than `num_labels` says."""
    names = published.get("id2label")
    if names is not None and not isinstance(names, Mapping):
        raise CheckpointError("must be an object that maps numbers to names.", where="config.json: id2label")
    said = published.get("num_labels")
    if not num_labels or names is None or (said is not None and said != len(names)):
        return tuple(f"LABEL_{number}" for number in range(num_labels))
    try:
        return tuple(str(names[key]) for key in sorted(names, key=int)) if _counts(names, num_labels) else ()
    except ValueError as error:
        raise CheckpointError("has keys that are not numbers.", where="config.json: id2label") from error


def _counts(names: Mapping[str, Any], num_labels: int) -> bool:
    numbers = sorted(int(key) for key in names)
    if numbers != list(range(num_labels)):
        raise CheckpointError(
            f"must name the head's {num_labels} outputs, counted from 0; it names {len(numbers)}.",
            where="config.json: id2label",
        )
    return True
