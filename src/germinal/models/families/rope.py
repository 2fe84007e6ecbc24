"""Rotary positions in config.json, with the keys of transformers 4 (`rope_theta`, `rope_scaling`) and 5
(`rope_parameters`), and how they are stretched (transformers' modeling_rope_utils.py).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from germinal.errors import UnsupportedError
from germinal.layers.positions import RopeScaling
from germinal.models.families.published_keys import WHERE, Key, maybe

ROPE_KEYS: Mapping[str, Any] = {
    "rope_theta": 10_000.0,
    "rope_scaling": maybe(dict),
    "rope_parameters": maybe(dict),
    "original_max_position_embeddings": maybe(int),
}
ROPE_ONLY: Mapping[str, Any] = {"partial_rotary_factor": 1.0}

_WHERE = f"{WHERE}: rope_parameters"
_FACTOR = {"factor": Key(float)}
_LENGTH = {"original_max_position_embeddings": maybe(int)}
_YARN = ("attention_factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim")
PARAMETERS: Mapping[str, Mapping[str, Key]] = {
    "default": {},
    "linear": _FACTOR,
    "dynamic": _FACTOR,
    "llama3": {**_FACTOR, **_LENGTH, "low_freq_factor": Key(float), "high_freq_factor": Key(float)},
    "yarn": {"factor": maybe(float), **_LENGTH, **dict.fromkeys(_YARN, maybe(float)), "truncate": Key(bool, True)},
}
"""The parameters of each kind of scaling."""


def rope(said: Mapping[str, Any]) -> dict[str, Any]:
    """`rope_theta` and `rope_scaling` of our config, from the values of `ROPE_KEYS` and the context window.

    As in transformers, `rope_scaling` counts where it and `rope_parameters` are both given, and the parameters'
    `rope_theta` rather than the config's.

    Raises:
        CheckpointError: a parameter is missing or has the wrong type.
        UnsupportedError: a kind of scaling that is not supported.
    """
    parameters = said["rope_scaling"] or said["rope_parameters"] or {}
    if nested := [key for key, value in parameters.items() if isinstance(value, dict)]:
        raise UnsupportedError(
            f"has parameters of its own for {nested[0]!r:.40}.",
            where=_WHERE,
            hint="The layers of this family share one rotary base.",
        )
    theta = Key(float, said["rope_theta"]).value("rope_theta", parameters, _WHERE)
    return {"rope_theta": float(theta), "rope_scaling": scaling(parameters, said)}


def scaling(parameters: Mapping[str, Any], said: Mapping[str, Any]) -> RopeScaling | None:
    """A published rope scaling.

    Args:
        parameters: `rope_parameters` or `rope_scaling`.
        said: The other values of config.json, for the context lengths.

    Raises:
        CheckpointError: a parameter is missing or has the wrong type.
        UnsupportedError: a kind that is not supported.
    """
    kind = parameters.get("rope_type") or parameters.get("type") or "default"
    if not isinstance(kind, str) or kind not in PARAMETERS:
        known = ", ".join(PARAMETERS)
        raise UnsupportedError(f"rope scaling {kind!r:.40} is not supported.", where=_WHERE, hint=f"Known: {known}.")
    if parameters.get("partial_rotary_factor") not in (None, 1.0):
        raise UnsupportedError("heads that are rotated in part are not supported.", where=_WHERE)
    if kind == "default":
        return None
    given = {name: key.value(name, parameters, _WHERE) for name, key in PARAMETERS[kind].items()}
    window = said["max_position_embeddings"]
    if kind == "linear":
        return RopeScaling("linear", float(given["factor"]))
    if kind == "dynamic":
        return RopeScaling("dynamic", float(given["factor"]), original_max_position_embeddings=window)
    original = said["original_max_position_embeddings"] or given["original_max_position_embeddings"] or window
    if kind == "llama3":
        low, high = float(given["low_freq_factor"]), float(given["high_freq_factor"])
        return RopeScaling("llama3", float(given["factor"]), low, high, original)
    return _yarn(given, window, original)


def _yarn(given: Mapping[str, Any], window: int, original: int) -> RopeScaling:
    factor = float(window / original if given["factor"] is None else given["factor"])
    attention_factor = given["attention_factor"]
    if attention_factor is None:
        whole, parts = given["mscale"], given["mscale_all_dim"]
        attention_factor = _magnitude(factor, whole) / _magnitude(factor, parts) if whole and parts else None
    return RopeScaling(
        "yarn",
        factor,
        original_max_position_embeddings=original,
        attention_factor=float(_magnitude(factor, 1.0) if attention_factor is None else attention_factor),
        beta_fast=float(given["beta_fast"] or 32),
        beta_slow=float(given["beta_slow"] or 1),
        truncate=given["truncate"],
    )


def _magnitude(factor: float, weight: float) -> float:
    """The square root of 1/t in equation 22 of yarn's paper, with DeepSeek's weight of the logarithm."""
    return 1.0 if factor <= 1 else 0.1 * weight * math.log(factor) + 1.0


def published_rope(theta: float, scaled: RopeScaling | None) -> dict[str, Any]:
    """The `rope_parameters` of config.json."""
    parameters: dict[str, Any] = {"rope_theta": theta, "rope_type": "default" if scaled is None else scaled.kind}
    if scaled is not None:
        named = {name: getattr(scaled, name, None) for name in PARAMETERS[scaled.kind]}
        neutral = {"mscale": None, "mscale_all_dim": None, "truncate": True}
        parameters |= {name: value for name, value in named.items() if name not in neutral or value != neutral[name]}
    return parameters


def rope_to_hf(theta: float, scaled: RopeScaling | None) -> dict[str, Any]:
    """The inverse of `rope`, with the keys of both transformers 4 and 5."""
    parameters = published_rope(theta, scaled)
    older = {key: value for key, value in parameters.items() if key != "rope_theta"}
    return {"rope_theta": theta, "rope_scaling": None if scaled is None else older, "rope_parameters": parameters}
