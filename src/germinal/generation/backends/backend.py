"""What the engine asks of whatever runs the network. A backend sees token ids, positions and slots, never text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

NUM_SLOTS = 32
"""Sequences that a backend holds at once, unless it is told otherwise."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Consecutive tokens of one sequence that run in this step: a part of a prompt, the last generated token, or all
    that an encoder reads.

    Attributes:
        slot: Where the sequence's keys and values lie.
        start: Position of the first token; the positions before it have been computed.
        token_ids: The tokens.
        num_logits: Logits are wanted after so many of the last tokens; of an encoder after none.
        adapter: Name of the adapter that they go through.
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
"""All that runs in one step; no two chunks share a slot."""


class Backend(Protocol):
    """One way to run a network with a decoder."""

    num_slots: int
    context_window: int

    def encode(self, batch: StepBatch) -> None:
        """Run the encoder over what some sequences give it, and keep the keys and values that cross-attention reads."""
        ...

    def forward(self, batch: StepBatch) -> Tensor:
        """Run the tokens of a step, and keep their keys and values in the place of those that a slot had there.

        Returns:
            The wanted logits, float32 [sum of num_logits, V], chunk after chunk.
        """
        ...

    def reserve(self, capacity: int) -> None:
        """Be ready for `capacity` positions in every slot."""
        ...

    def fork(self, source: int, target: int, length: int) -> None:
        """Let slot `target` begin with the first `length` positions of slot `source`, and have its encoded input."""
        ...

    def weights_changed(self) -> None:
        """Read the weights anew, where the backend holds any in a form of its own."""
        ...
