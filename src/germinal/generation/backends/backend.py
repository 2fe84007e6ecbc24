"""What the engine asks of whatever runs the network. A backend sees token ids, positions and slots, never text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Chunk:
    """Consecutive tokens of one sequence that run in this step: a part of a prompt, or the last generated token.

    Attributes:
        slot: Where the sequence's keys and values lie.
        start: Position of the first token; the positions before it have been computed.
        token_ids: The tokens.
        num_logits: Logits are wanted after so many of the last tokens.
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
    """One way to run a decoder. An encoder's `encode` joins with the first architecture that has one."""

    num_slots: int
    context_window: int

    def forward(self, batch: StepBatch) -> Tensor:
        """Run the tokens of a step, keep their keys and values, and return the wanted logits, float32 [sum, V], chunk
        after chunk.
        """
        ...

    def reserve(self, capacity: int) -> None:
        """Be ready for `capacity` positions in every slot."""
        ...

    def fork(self, source: int, target: int, length: int) -> None:
        """Let slot `target` begin with the first `length` positions of slot `source`."""
        ...

    def truncate(self, slot: int, length: int) -> None:
        """Forget the positions of a slot from `length` on."""
        ...

    def free(self, slot: int) -> None:
        """Forget a slot."""
        ...

    def weights_changed(self) -> None:
        """Read the weights anew, where the backend holds any in a form of its own, and forget every slot."""
        ...
