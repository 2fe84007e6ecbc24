"""The token that the decoder of an encoder-decoder starts with, as a checkpoint names it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from germinal.errors import CheckpointError


def decoder_start_id(generation_config: Mapping[str, Any], model: str) -> int:
    """The id of the start token.

    Args:
        generation_config: generation_config.json as published.
        model: The checkpoint's name, for error messages.

    Raises:
        CheckpointError: the checkpoint names none.
    """
    for name in ("decoder_start_token_id", "bos_token_id"):
        if isinstance(found := generation_config.get(name), int):
            return found
    raise CheckpointError(
        "names no token that the decoder starts with.",
        where=f"{model}: generation_config.json",
        hint="Add decoder_start_token_id.",
    )
