"""The key-value cache: the keys and values of each sequence's tokens, kept so that they are computed once.

A cache is divided into slots, one a sequence. The positions of one head are contiguous, because attention reads them in
that order: with the heads of one position contiguous, a step over a long past takes twice as long. On the CPU, memory
is allocated when a position is first written, not when it is reserved.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor


class KVCache:
    """Keys and values of all layers, [L, slots, K, capacity, E] each; `reserve` enlarges them.

    Args:
        num_layers, num_kv_heads, head_dim: L, K, E of the network.
        num_slots: The largest number of sequences at once.
        dtype, device: Of the keys and values.

    Attributes:
        lengths: By slot, how many positions are kept when the cache grows; whoever writes into a slot says so.
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
        self.num_slots = num_slots
        self.capacity = 0
        self.lengths = [0] * num_slots
        self._heads = (num_kv_heads, head_dim)
        self._dtype = dtype
        self._device = device
        self.keys = self._empty(num_layers, 0)
        self.values = self._empty(num_layers, 0)

    def _empty(self, num_layers: int, capacity: int) -> Tensor:
        """Zeros, not uninitialised memory: a masked score times a stray NaN would still be NaN."""
        num_heads, head_dim = self._heads
        shape = (num_layers, self.num_slots, num_heads, capacity, head_dim)
        if self._device.type != "cpu" or capacity == 0:
            return torch.zeros(shape, dtype=self._dtype, device=self._device)
        # The system allocates the pages of numpy's zeros on first use; torch writes its zeros at once.
        return (
            torch.from_numpy(np.zeros(math.prod(shape) * self._dtype.itemsize, np.uint8)).view(self._dtype).view(shape)
        )

    def reserve(self, capacity: int) -> None:
        """Make room for `capacity` positions a slot."""
        if capacity <= self.capacity:
            return
        capacity = max(capacity, 2 * self.capacity)
        for name in ("keys", "values"):
            old: Tensor = getattr(self, name)
            new = self._empty(old.shape[0], capacity)
            for slot, length in enumerate(self.lengths):
                new[:, slot, :, :length] = old[:, slot, :, :length]
            setattr(self, name, new)
        self.capacity = capacity

    def copy(self, source: int, target: int, length: int) -> None:
        """Give slot `target` the first `length` positions of slot `source`."""
        for tensor in (self.keys, self.values):
            tensor[:, target, :, :length] = tensor[:, source, :, :length]
        self.lengths[target] = length

    def places(self, slots: Tensor, positions: Tensor) -> Tensor:
        """Where the heads of tokens [N] are in every layer, [N K], for `write`; valid until the cache grows."""
        num_heads, _ = self._heads
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
