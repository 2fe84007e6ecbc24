"""Which examples are for training and which for validation, and their order: by seed and content, with little padding.

What examples hold, and how they become a batch, is up to subclasses.
"""

from __future__ import annotations

import hashlib
import random
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Generic, Protocol

import torch
from torch import Tensor

from germinal.training.interfaces import BatchT

SORTED_BATCHES = 50
"""Micro-batches whose examples are sorted by length together: enough for little padding, few enough to stay random."""


class Example(Protocol):
    """What is needed of an example: its number of tokens, and its content, by which equal examples are recognised."""

    @property
    def length(self) -> int: ...
    @property
    def content(self) -> tuple[object, ...]: ...


class ShuffledData(ABC, Generic[BatchT]):
    """The examples of a run, of which a part is held out for validation, divided into new micro-batches each epoch.

    Args:
        examples: At least two if a part is to be held out.
        micro_batch_size: Examples in a batch.
        validation_fraction: The part to hold out. It depends on the seed and on the examples' content, not on their
            order, and never separates equal examples.
        seed: Of the validation part and of the order.
    """

    def __init__(
        self, examples: Sequence[Example], *, micro_batch_size: int, validation_fraction: float, seed: int
    ) -> None:
        self.examples = examples
        self._size = micro_batch_size
        self._seed = seed
        self.training_rows, self.validation_rows = _held_out(examples, validation_fraction, seed)

    @abstractmethod
    def collate(self, rows: Sequence[int]) -> BatchT:
        """The batch of the examples at `rows`."""

    @property
    def batches_per_epoch(self) -> int:
        return -(-len(self.training_rows) // self._size)

    def epoch(self, number: int) -> Batches[BatchT]:
        """The micro-batches of an epoch, in random order, of examples of similar length; the same for equal seeds."""
        order = random.Random(f"{self._seed}/{number}")
        rows = list(self.training_rows)
        order.shuffle(rows)
        stretch = self._size * SORTED_BATCHES
        cut: list[list[int]] = []
        for start in range(0, len(rows), stretch):
            cut += self._cut(rows[start : start + stretch])
        order.shuffle(cut)
        return Batches(self, cut)

    def validation(self) -> Batches[BatchT]:
        """The micro-batches of the validation part."""
        return Batches(self, self._cut(self.validation_rows))

    def _cut(self, rows: Sequence[int]) -> list[list[int]]:
        by_length = sorted(rows, key=lambda row: self.examples[row].length)
        return [by_length[start : start + self._size] for start in range(0, len(by_length), self._size)]


class Batches(Generic[BatchT]):
    """A sequence of batches, each collated when it is accessed."""

    def __init__(self, data: ShuffledData[BatchT], rows: list[list[int]]) -> None:
        self._data = data
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, place: int) -> BatchT:
        return self._data.collate(self._rows[place])


def padded(sequences: Sequence[Sequence[int]], value: int) -> Tensor:
    """The sequences as one tensor, shorter ones padded with `value` on the right."""
    width = max(map(len, sequences))
    return torch.tensor([[*ids, *[value] * (width - len(ids))] for ids in sequences])


def _held_out(examples: Sequence[Example], fraction: float, seed: int) -> tuple[list[int], list[int]]:
    """Rows for training and for validation; those whose hash of seed and content is smallest are held out."""
    rows = list(range(len(examples)))
    if fraction == 0 or len(examples) < 2:
        return rows, []
    wanted = min(max(round(fraction * len(examples)), 1), len(examples) - 1)
    ranked = sorted(rows, key=lambda row: (_rank(examples[row], seed), row))
    border = _rank(examples[ranked[wanted - 1]], seed)
    held_out = [row for row in rows if _rank(examples[row], seed) <= border]
    if len(held_out) == len(examples):  # all are equal: nothing would be left to train on
        return rows, []
    chosen = set(held_out)
    return [row for row in rows if row not in chosen], held_out


def _rank(example: Example, seed: int) -> bytes:
    return hashlib.sha256(repr((seed, *example.content)).encode()).digest()
