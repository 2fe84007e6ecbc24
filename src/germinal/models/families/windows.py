"""Which layers have a sliding window, in newer config.json files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from germinal.models.config import TransformerConfig

WINDOWED, WHOLE = "sliding_attention", "full_attention"


def windows_from_hf(hf: Mapping[str, Any]) -> dict[str, Any]:
    """`window` and `windowed_layers` of our config; without windowed layers there is no window."""
    kinds = hf.get("layer_types") or []
    if not hf.get("sliding_window") or not hf.get("use_sliding_window", True) or WINDOWED not in kinds:
        return {"window": None}
    return {"window": hf["sliding_window"], "windowed_layers": tuple(kind == WINDOWED for kind in kinds)}


def windows_to_hf(config: TransformerConfig) -> dict[str, Any]:
    """The inverse of `windows_from_hf`."""
    kinds = [WINDOWED if config.is_windowed(layer) else WHOLE for layer in range(config.num_layers)]
    return {"layer_types": kinds, "sliding_window": config.window}
