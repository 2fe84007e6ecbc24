"""The embedding table, quick to make on the meta device."""

from __future__ import annotations

import torch
from torch import nn


def embedding(rows: int, columns: int, device: torch.device | str | None) -> nn.Embedding:
    """A table [rows, columns], randomly initialised unless on the meta device."""
    if device is None or torch.device(device).type != "meta":
        return nn.Embedding(rows, columns, device=device)
    # There is nothing to initialise, and torch's `normal_` on this device imports its whole compiler: seconds.
    return nn.Embedding(rows, columns, _weight=torch.empty(rows, columns, device=device))
