"""The interface between the engine and what runs the network. It consists of token ids, positions and slots."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

NUM_SLOTS = 32
"""Default number of sequences that a backend holds at the same time."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Consecutive tokens of one sequence: part of a prompt, the last generated token, or a whole encoder input.

    Attributes:
        slot: Where the keys and values of the sequence are kept.
        start: Position of the first token; all positions before it have been computed.
        token_ids: The tokens.
        num_logits: How many of them, counted from the end, need logits; 0 in an encoder.
        adapter: Name of the adapter to use.
    """

    slot: int
    start: int
    token_ids: Sequence[int]
    num_logits: int
    adapter: str | None = None

    @property
    def end(self) -> int:
        return self.start + len(self.token_ids)


StepBatch = Sequence[Chunk]
"""The chunks of one step, each in a slot of its own."""


class Backend(Protocol):
    """Runs a network that has a decoder."""

    num_slots: int
    context_window: int

    def encode(self, batch: StepBatch) -> None:
        """Run the encoder, and keep the keys and values for cross-attention."""
        ...

    def forward(self, batch: StepBatch) -> Tensor:
        """Run the tokens of a step, and keep their keys and values, overwriting what the slots had from `start` on.

        Returns:
            float32 [sum of num_logits, V], in the order of the chunks.
        """
        ...

    def reserve(self, capacity: int) -> None:
        """Make room for `capacity` positions in every slot."""
        ...

    def fork(self, source: int, target: int, length: int) -> None:
        """Copy the first `length` positions of slot `source`, and its encoded input, to slot `target`."""
        ...

    def weights_changed(self) -> None:
        """Update everything that the backend has derived from the weights."""
        ...
