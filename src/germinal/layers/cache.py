"""The key-value cache: keeps the keys and values of past tokens, so that each is computed once.

The cache is divided into slots, one per sequence. The positions of a head are contiguous, because attention reads them
in that order; if the heads of a position were contiguous instead, a step over a long past would take twice as long. On
the CPU, memory is allocated when a position is first written, not when it is reserved.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor


class KVCache:
    """Keys and values of all layers. It starts without room for any position; `reserve` enlarges it.

    Args:
        num_layers, num_kv_heads, head_dim: L, K, E of the network.
        num_slots: The largest number of sequences at the same time.
        dtype, device: Of the keys and values.

    Attributes:
        keys, values: [L, num_slots, K, capacity, E].
        lengths: Number of positions in use per slot, which are kept when the cache grows. The writer maintains it.
    """

    def __init__(
        self,
        num_layers: int,
        num_kv_heads: int,
        head_dim: int,
        num_slots: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self.lengths = [0] * num_slots
        self.keys = torch.zeros(num_layers, num_slots, num_kv_heads, 0, head_dim, dtype=dtype, device=device)
        self.values = torch.zeros_like(self.keys)

    @property
    def capacity(self) -> int:
        """Number of positions per slot."""
        return self.keys.shape[3]

    def reserve(self, capacity: int) -> None:
        """Make room for `capacity` positions per slot."""
        if capacity > self.capacity:
            capacity = max(capacity, 2 * self.capacity)
            self.keys = self._grown(self.keys, capacity)  # one after the other: the old keys are freed first
            self.values = self._grown(self.values, capacity)

    def _grown(self, old: Tensor, capacity: int) -> Tensor:
        """The keys or values in a larger tensor."""
        new = _zeros((*old.shape[:3], capacity, old.shape[4]), old.dtype, old.device)
        for slot, length in enumerate(self.lengths):
            new[:, slot, :, :length] = old[:, slot, :, :length]
        return new

    def copy(self, source: int, target: int, length: int) -> None:
        """Copy the first `length` positions of slot `source` to slot `target`."""
        for tensor in (self.keys, self.values):
            tensor[:, target, :, :length] = tensor[:, source, :, :length]
        self.lengths[target] = length

    def places(self, slots: Tensor, positions: Tensor) -> Tensor:
        """Indices of the heads of tokens [N] within a layer, [N K], for `write`; valid until the cache grows."""
        num_heads = self.keys.shape[2]
        heads = torch.arange(num_heads, device=slots.device)
        return ((slots[:, None] * num_heads + heads) * self.capacity + positions[:, None]).flatten()

    def write(self, layer: int, places: Tensor, key: Tensor, value: Tensor) -> None:
        """Store keys and values [N, K, E] of one layer at `places`."""
        for tensor, heads in ((self.keys, key), (self.values, value)):
            tensor[layer].view(-1, heads.shape[-1]).index_copy_(0, places, heads.flatten(0, 1))

    def read(self, layer: int, slots: list[int], length: int, first: int = 0) -> tuple[Tensor, Tensor]:
        """Keys and values of some slots at positions `first` to `length - 1`, [B, K, length - first, E] each.

        Consecutive slots are returned as a view; others are copied.
        """
        consecutive = slots[-1] - slots[0] == len(slots) - 1 and slots == sorted(slots)
        rows = slice(slots[0], slots[-1] + 1) if consecutive else slots
        return self.keys[layer, :, :, first:length][rows], self.values[layer, :, :, first:length][rows]


def _zeros(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Zeros, not uninitialised memory: a masked score times a stray NaN would still be NaN."""
    if device.type != "cpu":
        return torch.zeros(shape, dtype=dtype, device=device)
    # numpy's zeros take memory when they are first written; torch's are written at once.
    return torch.from_numpy(np.zeros(math.prod(shape) * dtype.itemsize, np.uint8)).view(dtype).view(shape)
