"""What the published configs and weight names of several families have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from germinal.errors import UnsupportedError, nearest
from germinal.models.config import TransformerConfig
from germinal.models.families.published_keys import WHERE
from germinal.models.weight_rules import Split, WeightRule

ACTIVATIONS = {
    "relu": "relu",
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_python_tanh": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_accurate": "gelu_tanh",
    "gelu_10": "gelu_10",
    "quick_gelu": "quick_gelu",
    "silu": "silu",
    "swish": "silu",
    "tanh": "tanh",
    "relu2": "relu2",
    "relu6": "relu6",
    "leaky_relu": "leaky_relu",
    "sigmoid": "sigmoid",
    "mish": "mish",
    "hardswish": "hardswish",
    "laplace": "laplace",
    "linear": "linear",
}
"""Published name -> ours. The forms of one activation differ by rounding only."""


def usual_sizes(said: Mapping[str, Any]) -> dict[str, Any]:
    """The sizes under the keys that most configs have, with as many key-value heads as heads and head_dim D / H."""
    width, heads = said["hidden_size"], said["num_attention_heads"]
    return {
        "vocab_size": said["vocab_size"],
        "hidden_size": width,
        "intermediate_size": said["intermediate_size"],
        "num_layers": said["num_hidden_layers"],
        "num_heads": heads,
        "num_kv_heads": heads,
        "head_dim": width // heads,
    }


def activation(name: str) -> str:
    """Our name of a published activation.

    Raises:
        UnsupportedError: it is not supported.
    """
    if name not in ACTIVATIONS:
        raise UnsupportedError(
            f"activation {name!r} is not supported.", where=WHERE, hint=nearest(name, [*ACTIVATIONS])
        )
    return ACTIVATIONS[name]


def published_activation(name: str) -> str:
    """The published name of an activation of ours."""
    return next(published for published, ours in ACTIVATIONS.items() if ours == name)


def layer_rules(theirs: str, ours: str, names: Mapping[str, str]) -> list[WeightRule]:
    """Rules for weight and bias of each module of a layer: our name -> theirs, after the layers' prefixes."""
    return [
        WeightRule(f"{theirs}.{published}.{kind}", f"{ours}.{name}.{kind}")
        for name, published in names.items()
        for kind in ("weight", "bias")
    ]


def module_rules(names: Mapping[str, str]) -> list[WeightRule]:
    """Rules for weight and bias of each module: our name -> theirs."""
    return [
        WeightRule(f"{published}.{kind}", f"{name}.{kind}")
        for name, published in names.items()
        for kind in ("weight", "bias")
    ]


def fused_qkv(
    theirs: str, ours: str, config: TransformerConfig, *, grouped: bool = False, transposed: bool = False
) -> list[WeightRule]:
    """Rules for weight and bias of a projection that fuses queries, keys and values.

    Args:
        theirs: The projection's published name.
        ours: The attention module whose projections it fuses.
        grouped: Whether the rows are ordered by key-value head (the queries that share it, its key, its value), rather
            than all queries first, then all keys, then all values.
        transposed: Whether the matrix is [I, O].
    """
    kv_rows = config.num_kv_heads * config.head_dim
    groups = config.num_kv_heads if grouped else 1
    split = Split((config.num_heads * config.head_dim, kv_rows, kv_rows), groups, transposed)
    return [
        WeightRule(f"{theirs}.{kind}", tuple(f"{ours}.{part}_proj.{kind}" for part in "qkv"), split)
        for kind in ("weight", "bias")
    ]
