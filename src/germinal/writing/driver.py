"""What drives an engine: requests go in, each step brings them and their texts forward, and finished ones come out.

Whoever wants answers steps it: the library in the caller's own thread (`run`), the server in a thread for the engine.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from germinal.generation.engine import Engine
from germinal.generation.sequence import Sequence
from germinal.writing.pending import Pending


class Driver:
    """Runs requests on an engine. It belongs to one thread, as the engine does.

    Args:
        engine: What runs the sequences; nobody else gives it any.
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
            SettingError: it wants more beams than run at once.
        """
        self._engine.add(pending.lead)
        self._open |= dict.fromkeys(pending.sequences, pending)

    def step(self) -> list[Pending]:
        """Run one step of the engine.

        Returns:
            The requests that it brought forward, their texts up to date; those that are finished have left the engine.
        """
        changed = list(dict.fromkeys(self._open[sequence] for sequence in self._engine.step()))
        for pending in changed:
            pending.advance(self._engine)
            if pending.finished:
                self._forget(pending)
        return changed

    def cancel(self, pending: Pending) -> None:
        """End a request's sequences now; harmless when they have ended."""
        if pending.lead in self._open:
            self._engine.cancel(pending.lead)
            self._forget(pending)

    def run(self, pendings: Iterable[Pending]) -> Iterator[list[Pending]]:
        """Run requests to their end.

        Loops over the same driver may take turns: a step of any of them brings all requests forward.

        Yields:
            After each step, those of these requests that have finished since the last. Whoever stops early cancels the
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
                finished = [pending for pending in waiting if pending.finished]
                waiting = [pending for pending in waiting if not pending.finished]
                yield finished
        finally:
            for pending in waiting:
                self.cancel(pending)

    def weights_changed(self) -> None:
        """The network or one of its adapters was changed: what was computed with it is not used again."""
        self._engine.weights_changed()

    def _forget(self, pending: Pending) -> None:
        for sequence in pending.sequences:
            del self._open[sequence]
