"""The heads of published encoders: told by the class that config.json names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from germinal.errors import UnsupportedError
from germinal.models.config import TransformerConfig
from germinal.models.families.published import WHERE

_HEADS = {
    "Model": "pooler",
    "ForMaskedLM": "masked-lm",
    "ForPreTraining": "masked-lm",
    "ForSequenceClassification": "sequence-classification",
    "ForTokenClassification": "token-classification",
    "ForQuestionAnswering": "question-answering",
}


def head_of(hf: Mapping[str, Any], bare: str | None = "pooler") -> dict[str, Any]:
    """`head` and `num_labels` of our config.

    Args:
        hf: config.json.
        bare: The head of the class that ends in Model, which is also taken when no class is named.

    Raises:
        UnsupportedError: a class that has no head of ours.
    """
    (architecture,) = (hf.get("architectures") or ["Model"])[:1]
    for ending, head in _HEADS.items():
        if architecture.endswith(ending):
            name = bare if head == "pooler" else head
            return {"head": name, "num_labels": _labels(hf, head)}
    raise UnsupportedError(f"the head of {architecture} is not supported.", where=WHERE)


def architecture_of(config: TransformerConfig, prefix: str) -> str:
    """The class that a config is written as."""
    ending = next((ending for ending, head in _HEADS.items() if head == config.head), "Model")
    return prefix + ending


def _labels(hf: Mapping[str, Any], head: str) -> int:
    if head == "question-answering":
        return 2
    if head not in ("sequence-classification", "token-classification"):
        return 0
    return int(hf.get("num_labels") or len(hf.get("id2label") or (0, 1)))
