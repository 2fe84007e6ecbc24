"""The thread that owns the engine. Everything reaches it through one queue, and goes back by `call_soon_threadsafe`.

Requests that wait and run at the same time share the engine's batch. What a step brought is handed to the event loop at
once and kept there until the client has read it, at most the length of an answer: a client that reads slowly costs
memory, never time. A cancelled job's sequences leave the engine before the next step.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from germinal.generation import sequence
from germinal.generation.engine import Engine
from germinal.generation.request import TextStream
from germinal.generation.sampler import SampledToken
from germinal.generation.sequence import FinishReason
from germinal.serving.errors import QueueFullError, StoppingError

logger = logging.getLogger("germinal.serving")


@dataclass(frozen=True, slots=True)
class Piece:
    """What a step added to one answer of a job.

    Attributes:
        index: Which of the job's answers.
        text: Text that may be shown.
        tokens: Tokens that were chosen.
        finish_reason: Why the answer ended, if it did.
    """

    index: int
    text: str
    tokens: tuple[SampledToken, ...]
    finish_reason: FinishReason | None


class Job:
    """The sequences that one request brings, and the way back to the event loop in which it is made.

    Args:
        lead: The first sequence; the others are its forks.
        streams: Those whose text is wanted, one for each answer; none when continuations are only scored.
    """

    def __init__(self, lead: sequence.Sequence, streams: Sequence[TextStream] = ()) -> None:
        self.lead = lead
        self.sequences = (lead, *lead.forks)
        self.answers = max(1, len(streams))
        self._streams = tuple(streams)
        self._tokens_given = [0] * len(self._streams)
        self._ended: set[int] = set()
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[Piece | Exception | None] = asyncio.Queue()

    async def pieces(self) -> AsyncIterator[Piece]:
        """What the steps bring, until all sequences have ended; raises what the engine failed with."""
        while (event := await self._events.get()) is not None:
            if isinstance(event, Exception):
                raise event
            yield event

    async def wait(self) -> None:
        """Until all sequences have ended."""
        async for _ in self.pieces():
            pass

    # The rest is called in the engine's thread.

    @property
    def finished(self) -> bool:
        return all(each.finished for each in self.sequences)

    def advance(self, engine: Engine) -> list[Piece]:
        """Bring the texts up to date; what is new in them."""
        new = []
        for index, stream in enumerate(self._streams):
            if index in self._ended:
                continue
            text = stream.advance(engine)
            tokens = tuple(stream.sequence.tokens[self._tokens_given[index] :])
            self._tokens_given[index] += len(tokens)
            if stream.sequence.finished:
                self._ended.add(index)
            if text or tokens or stream.sequence.finished:
                new.append(Piece(index, text, tokens, stream.sequence.finish_reason))
        return new

    def hand_back(self, *events: Piece | Exception | None) -> None:
        """Give events to the event loop; None is the last one."""
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(self._receive, events)

    def _receive(self, events: tuple[Piece | Exception | None, ...]) -> None:
        for event in events:
            self._events.put_nowait(event)


class EngineThread:
    """Runs an engine in a thread of its own.

    Args:
        make_engine: Makes the engine; called again after a step has failed, whose engine is not trusted any more.
        max_answers: Answers that may wait and run at once; more are refused.
    """

    def __init__(self, make_engine: Callable[[], Engine], max_answers: int = 256) -> None:
        self._make_engine = make_engine
        self._engine = make_engine()
        self._max_answers = max_answers
        self._commands: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._jobs: dict[sequence.Sequence, Job] = {}
        self._lock = threading.Lock()
        self._open = 0
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="germinal-engine", daemon=True)

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def stop(self) -> None:
        """End all jobs with a `StoppingError`, and the thread after the step that it is in."""
        with self._lock:
            self._stopping = True
        self._commands.put(None)
        if self._thread.is_alive():
            self._thread.join()

    @property
    def alive(self) -> bool:
        """Whether the thread works."""
        return self._thread.is_alive() and not self._stopping

    @property
    def open_answers(self) -> int:
        """Answers that wait or run."""
        return self._open

    def submit(self, job: Job) -> None:
        """Queue a job.

        Raises:
            QueueFullError: too many answers are open.
            StoppingError: the thread has been stopped.
        """
        with self._lock:
            if self._stopping:
                raise StoppingError
            if self._open + job.answers > self._max_answers:
                raise QueueFullError
            self._open += job.answers
            self._commands.put(partial(self._add, job))

    def cancel(self, job: Job) -> None:
        """End a job's sequences before the next step; harmless when they have ended."""
        self._commands.put(partial(self._cancel, job))

    def _run(self) -> None:
        while self._take_commands():
            if self._engine.has_work:
                self._step()
        self._fail_all(StoppingError())

    def _take_commands(self) -> bool:
        """Do what is queued, waiting for it only when there is nothing else to do. False: stop."""
        wait = not self._engine.has_work
        while True:
            try:
                command = self._commands.get(block=wait)
            except queue.Empty:
                return True
            if command is None:
                return False
            command()
            wait = False

    def _step(self) -> None:
        try:
            changed = self._engine.step()
            for job in dict.fromkeys(self._jobs[each] for each in changed):
                job.hand_back(*job.advance(self._engine))
                if job.finished:
                    self._close(job, None)
        except Exception as error:
            logger.exception("a step of the engine failed; its requests end with an error")
            self._fail_all(error)
            self._engine = self._make_engine()

    def _add(self, job: Job) -> None:
        self._jobs |= dict.fromkeys(job.sequences, job)
        try:
            self._engine.add(job.lead)
        except Exception as error:
            self._close(job, error)

    def _cancel(self, job: Job) -> None:
        if job.lead in self._jobs:
            self._engine.cancel(job.lead)
            self._close(job, None)

    def _close(self, job: Job, event: Exception | None) -> None:
        for each in job.sequences:
            del self._jobs[each]
        with self._lock:
            self._open -= job.answers
        job.hand_back(event)

    def _fail_all(self, error: Exception) -> None:
        for job in dict.fromkeys(self._jobs.values()):
            self._close(job, error)
