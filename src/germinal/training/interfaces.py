"""What `loop.train` needs of data and objectives, and all that it knows of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from torch import Tensor, nn


class TrainingBatch(Protocol):
    """What the loop needs of a batch: how many terms its loss sums over, its real tokens, and its examples' indices."""

    @property
    def weight(self) -> int: ...
    @property
    def num_tokens(self) -> int: ...
    @property
    def rows(self) -> tuple[int, ...]: ...


BatchT = TypeVar("BatchT", bound=TrainingBatch, covariant=True)


class Batches(Protocol[BatchT]):
    """A sequence of batches."""

    def __len__(self) -> int: ...
    def __getitem__(self, place: int, /) -> BatchT: ...


class TrainingData(Protocol[BatchT]):
    """Micro-batches of each epoch, equally many and reproducible by its number, and those of the validation part."""

    @property
    def batches_per_epoch(self) -> int: ...
    def epoch(self, number: int) -> Batches[BatchT]: ...
    def validation(self) -> Batches[BatchT]: ...


Objective = Callable[[nn.Module, Any], Tensor]
"""(network, batch) -> the summed loss of the batch."""
