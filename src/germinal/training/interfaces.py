"""What the training loop asks of data and objectives. Whatever has these can be trained: `loop.train` knows no more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from torch import Tensor, nn


class TrainingBatch(Protocol):
    """What the loop asks of a batch: what its loss is a sum over, its real tokens, and the examples it was made of."""

    @property
    def weight(self) -> int: ...
    @property
    def num_tokens(self) -> int: ...
    @property
    def rows(self) -> tuple[int, ...]: ...


BatchT = TypeVar("BatchT", bound=TrainingBatch, covariant=True)


class Batches(Protocol[BatchT]):
    """Batches by place."""

    def __len__(self) -> int: ...
    def __getitem__(self, place: int, /) -> BatchT: ...


class TrainingData(Protocol[BatchT]):
    """Micro-batches, as many in every epoch and the same for the same number, and those that are never trained on."""

    @property
    def batches_per_epoch(self) -> int: ...
    def epoch(self, number: int) -> Batches[BatchT]: ...
    def validation(self) -> Batches[BatchT]: ...


Objective = Callable[[nn.Module, Any], Tensor]
"""(network, batch) -> the loss, summed over the batch's weight."""
