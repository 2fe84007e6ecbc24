"""What the published configs and weight names of several families have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from germinal.errors import CheckpointError, UnsupportedError, nearest
from germinal.layers.positions import RopeScaling
from germinal.models.config import TransformerConfig
from germinal.models.weight_rules import Split, WeightRule

WHERE = "config.json"

ACTIVATIONS = {
    "relu": "relu",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "silu": "silu",
    "swish": "silu",
}
"""Published name -> ours."""


def required(hf: Mapping[str, Any], key: str) -> int:
    """A size that a config must have.

    Raises:
        CheckpointError: it is missing or not a positive integer.
    """
    size = hf.get(key)
    if size is None:
        raise CheckpointError(f"has no '{key}'.", where=WHERE, hint="The config is not complete.")
    if not isinstance(size, int) or isinstance(size, bool) or size < 1:
        raise CheckpointError(f"'{key}' must be a positive whole number, not {size!r}.", where=WHERE)
    return size


def usual_sizes(hf: Mapping[str, Any]) -> dict[str, Any]:
    """The sizes under the keys that most configs have, with as many key-value heads as heads and head_dim D / H."""
    width, heads = required(hf, "hidden_size"), required(hf, "num_attention_heads")
    return {
        "vocab_size": required(hf, "vocab_size"),
        "hidden_size": width,
        "intermediate_size": required(hf, "intermediate_size"),
        "num_layers": required(hf, "num_hidden_layers"),
        "num_heads": heads,
        "num_kv_heads": heads,
        "head_dim": width // heads,
    }


def given(hf: Mapping[str, Any], key: str, default: Any) -> Any:
    """A value that a config may leave out; null counts as left out, 0 does not."""
    value = hf.get(key)
    return default if value is None else value


def activation(name: Any) -> str:
    """Our name of a published activation.

    Raises:
        UnsupportedError: it is not supported.
    """
    if name not in ACTIVATIONS:
        raise UnsupportedError(
            f"activation '{name}' is not supported.", where=WHERE, hint=nearest(str(name), list(ACTIVATIONS))
        )
    return ACTIVATIONS[name]


def published_activation(name: str) -> str:
    """The published name of an activation of ours."""
    return next(published for published, ours in ACTIVATIONS.items() if ours == name)


def refuse(hf: Mapping[str, Any], **neutral: Any) -> None:
    """Refuse settings that are not supported.

    Args:
        neutral: For each key the value that has no effect; absent and null have none either.

    Raises:
        UnsupportedError: a key has another value; the message names both.
    """
    for key, value in neutral.items():
        if hf.get(key) not in (None, value):
            raise UnsupportedError(f"{key}={hf[key]!r} is not supported.", where=WHERE)


def rope(hf: Mapping[str, Any]) -> dict[str, Any]:
    """`rope_theta` and `rope_scaling` of our config, from the keys of transformers 4 or 5 (`rope_parameters`)."""
    parameters = hf.get("rope_parameters") or {}
    theta = float(given(parameters, "rope_theta", given(hf, "rope_theta", 10_000.0)))
    return {"rope_theta": theta, "rope_scaling": scaling(hf.get("rope_scaling") or parameters)}


def scaling(parameters: Mapping[str, Any]) -> RopeScaling | None:
    """A published rope scaling.

    Raises:
        UnsupportedError: a kind that is not supported.
    """
    kind = parameters.get("rope_type") or parameters.get("type") or "default"
    if kind == "default":
        return None
    if kind == "linear":
        return RopeScaling("linear", float(parameters["factor"]))
    if kind == "llama3":
        return RopeScaling(
            "llama3",
            float(parameters["factor"]),
            float(parameters["low_freq_factor"]),
            float(parameters["high_freq_factor"]),
            int(parameters["original_max_position_embeddings"]),
        )
    raise UnsupportedError(
        f"rope scaling '{kind}' is not supported.", where=WHERE, hint="Known: default, linear, llama3."
    )


def published_rope(theta: float, scaled: RopeScaling | None) -> dict[str, Any]:
    """The `rope_parameters` of config.json."""
    parameters: dict[str, Any] = {"rope_theta": theta, "rope_type": "default" if scaled is None else scaled.kind}
    if scaled is not None:
        parameters["factor"] = scaled.factor
        if scaled.kind == "llama3":
            parameters["low_freq_factor"] = scaled.low_freq_factor
            parameters["high_freq_factor"] = scaled.high_freq_factor
            parameters["original_max_position_embeddings"] = scaled.original_max_position_embeddings
    return parameters


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
