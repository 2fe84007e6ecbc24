"""The heads of published models, determined by the class name in config.json, which ends in the head's name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from germinal.errors import CheckpointError, UnsupportedError
from germinal.models.config import TransformerConfig
from germinal.models.families.published_keys import WHERE

_WHOLE_TEXTS, _TOKENS = "sequence-classification", "token-classification"

ENCODER = {
    "Model": "pooler",
    "ForMaskedLM": "masked-lm",
    "ForPreTraining": "masked-lm",
    "ForSequenceClassification": _WHOLE_TEXTS,
    "ForTokenClassification": _TOKENS,
    "ForQuestionAnswering": "question-answering",
}
DECODER = {
    "ForCausalLM": "lm",
    "LMHeadModel": "lm",
    "ForSequenceClassification": _WHOLE_TEXTS,
    "ForTokenClassification": _TOKENS,
    "Model": None,
}
TWO_STACKS = {
    "ForConditionalGeneration": "lm",
    "MTModel": "lm",
    "ForSequenceClassification": _WHOLE_TEXTS,
    "EncoderModel": None,
    "Model": None,
}

CLASSES = tuple(dict.fromkeys([*ENCODER, *DECODER, *TWO_STACKS]))
"""What the names of the classes that are read end in."""


def encoder_head(said: Mapping[str, Any], *, pooler: bool = True) -> dict[str, Any]:
    """`head` and `num_labels` of an encoder's config.

    Args:
        said: The values of `HEAD_KEYS`.
        pooler: Whether the class without a task, such as BertModel, has a pooler.

    Raises:
        UnsupportedError: the class's head is not supported.
    """
    head = _head(said, ENCODER, "Model")
    return {"head": head if pooler or head != "pooler" else None, "num_labels": _labels(said, head)}


def decoder_head(said: Mapping[str, Any], *, tied: bool) -> dict[str, Any]:
    """The same for a decoder. A text is classified by its last token.

    A class without a head is read as a language model if the output matrix is tied, since it has all its weights.
    """
    head = _head(said, DECODER, "ForCausalLM")
    if head is None and tied:
        head = "lm"
    pooled = {"pooled_token": "last", "pooler_activation": None} if head == _WHOLE_TEXTS else {}
    return {"head": head, "num_labels": _labels(said, head), **pooled}


def two_stack_head(said: Mapping[str, Any], *, labels: int = 2) -> dict[str, Any]:
    """The same for an encoder-decoder. Its decoder reads the text too, which is classified by its last token.

    Args:
        said: The values of `HEAD_KEYS`.
        labels: How many there are where config.json does not say.
    """
    head = _head(said, TWO_STACKS, "ForConditionalGeneration")
    pooled = {"pooled_token": "last"} if head == _WHOLE_TEXTS else {}
    return {"head": head, "num_labels": _labels(said, head, labels), **pooled}


def head_to_hf(config: TransformerConfig, prefix: str, lm: str | None = None) -> dict[str, Any]:
    """The class name for config.json, and the number of labels.

    Args:
        prefix: The class name without the head's ending.
        lm: The whole name of the class with a language-model head; None if there is none.

    Raises:
        UnsupportedError: the family has no class with this head.
    """
    endings = {head: ending for ending, head in reversed(ENCODER.items())} | {None: "Model"}
    name = lm if config.head == "lm" else prefix + endings[config.head]
    if name is None:
        raise UnsupportedError(f"there is no {prefix} class with the head '{config.head}'.", where="config.head")
    return {"architectures": [name], **({"num_labels": config.num_labels} if config.num_labels else {})}


def architecture(said: Mapping[str, Any], default: str) -> str:
    """The class name in config.json.

    Raises:
        CheckpointError: `architectures` is not a list of names.
    """
    named = said["architectures"]
    if not named:
        return default
    if not isinstance(named[0], str):
        raise CheckpointError(f"must be a list of names, not {named!r}.", where=f"{WHERE}: architectures")
    return named[0]


def _head(said: Mapping[str, Any], heads: Mapping[str, str | None], default: str) -> str | None:
    name = architecture(said, default)
    for ending, head in heads.items():
        if name.endswith(ending):
            return head
    raise UnsupportedError(
        f"the head of {name} is not supported.", where=WHERE, hint=f"Known classes end in {', '.join(heads)}."
    )


def _labels(said: Mapping[str, Any], head: str | None, default: int = 2) -> int:
    """The number of labels: `num_labels` counts where `id2label` names more or fewer, as in transformers."""
    if head == "question-answering":
        return 2
    if head not in (_WHOLE_TEXTS, _TOKENS):
        return 0
    if said["num_labels"] is not None:
        return int(said["num_labels"])
    return default if said["id2label"] is None else len(said["id2label"])
