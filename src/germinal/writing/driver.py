"""What drives an engine: requests go in, and each step extends their sequences and their texts.

The library drives it in the caller's thread (`Driver.run`), the server in a thread of the engine's own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from germinal.generation.engine import Engine
from germinal.generation.sequence import Sequence
from germinal.writing.pending import Pending


class Driver:
    """Runs requests on an engine. Like the engine, it belongs to one thread.

    Args:
        engine: The engine, which must get its sequences from this driver alone.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._open: dict[Sequence, Pending] = {}

    @property
    def has_work(self) -> bool:
        """Whether `step` would do anything."""
        return self._engine.has_work

    def add(self, pending: Pending) -> None:
        """Queue the sequences of a request.

        Raises:
            ContextWindowError: the prompt, or a continuation after it, does not fit the context window.
            SettingError: it needs more beams than the engine runs at the same time.
        """
        self._engine.add(pending.lead)
        self._open |= dict.fromkeys(pending.sequences, pending)

    def step(self) -> list[Pending]:
        """Run one step of the engine.

        Returns:
            The requests that the step extended, with their texts up to date. Finished ones have left the engine.
        """
        changed = list(dict.fromkeys(self._open[sequence] for sequence in self._engine.step()))
        for pending in changed:
            pending.advance(self._engine)
            if pending.finished:
                self._forget(pending)
        return changed

    def cancel(self, pending: Pending) -> None:
        """End a request's sequences now; nothing happens if they have ended."""
        if self._is_open(pending):
            self._engine.cancel(pending.lead)
            self._forget(pending)

    def run(self, pendings: Iterable[Pending]) -> Iterator[list[Pending]]:
        """Run requests until all have finished.

        Several such loops may take turns on one driver: a step of any of them extends the requests of all.

        Yields:
            After each step, those of the requests that have finished since the step before. Stopping early cancels the
            others.

        Raises:
            ContextWindowError, SettingError: as of `add`; none of the requests is run then.
        """
        waiting = list(pendings)
        try:
            for pending in waiting:
                self.add(pending)
            while waiting:
                self.step()
                finished = [pending for pending in waiting if not self._is_open(pending)]
                if finished:
                    waiting = [pending for pending in waiting if self._is_open(pending)]
                yield finished
        finally:
            for pending in waiting:
                self.cancel(pending)

    def weights_changed(self) -> None:
        """The network or one of its adapters was changed: what was computed with it is not used again."""
        self._engine.weights_changed()

    def _is_open(self, pending: Pending) -> bool:
        return pending.lead in self._open

    def _forget(self, pending: Pending) -> None:
        for sequence in pending.sequences:
            del self._open[sequence]
