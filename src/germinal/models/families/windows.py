"""Which layers have a sliding window, in config.json: a list says it, or else a rule of the family's older files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from germinal.errors import CheckpointError, UnsupportedError
from germinal.models.config import MOST_LAYERS, TransformerConfig
from germinal.models.families.published_keys import WHERE

WINDOWED, WHOLE = "sliding_attention", "full_attention"
_OLDER = {"attention": WHOLE}


def windows_from_hf(
    said: Mapping[str, Any], *, used: bool, windowed: Callable[[int], bool], where: str = f"{WHERE}: layer_types"
) -> dict[str, Any]:
    """`window` and `windowed_layers` of our config; without windowed layers there is no window.

    Args:
        said: The values of `layer_types`, `sliding_window` and `num_hidden_layers`.
        used: Whether config.json lets the window have an effect.
        windowed: Which layers have one if there is no list, counted from 0.

    Raises:
        CheckpointError: the list has another length than the stack, or names a window that the config does not give.
        UnsupportedError: it names another kind of attention.
    """
    layers, window, kinds = said["num_hidden_layers"], said["sliding_window"] if used else None, said["layer_types"]
    if kinds is None:
        chosen = tuple(windowed(layer) for layer in range(min(layers, MOST_LAYERS))) if used else ()
        if not any(chosen):
            return {"window": None}
        if window is None:
            raise CheckpointError("is null, and some layers have a window.", where=f"{WHERE}: sliding_window")
        return {"window": window, "windowed_layers": chosen}
    kinds = [_OLDER.get(kind, kind) if isinstance(kind, str) else kind for kind in kinds]
    if len(kinds) != layers:
        raise CheckpointError(f"has {len(kinds):,} entries for {layers:,} layers.", where=where)
    if strange := [kind for kind in kinds if kind not in (WINDOWED, WHOLE)]:
        raise UnsupportedError(
            f"{strange[0]!r:.40} is not supported.", where=where, hint=f"Known: {WINDOWED}, {WHOLE}."
        )
    if WINDOWED not in kinds:
        return {"window": None}
    if window is None:
        raise CheckpointError(f"has layers with {WINDOWED}, but no sliding_window is given or used.", where=where)
    return {"window": window, "windowed_layers": tuple(kind == WINDOWED for kind in kinds)}


def layer_types(config: TransformerConfig) -> list[str]:
    """The list of the kind of attention of each layer."""
    return [WINDOWED if config.is_windowed(layer) else WHOLE for layer in range(config.num_layers)]
