"""The thread that drives the engine. Jobs reach it through one queue; results go back by `call_soon_threadsafe`.

Jobs that are open at the same time share the engine's batch. The event loop gets what a step brought at once, and keeps
it until the client has read it, at most a whole answer: a slow client costs memory, never time. The sequences of a
cancelled job leave the engine before the next step.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from functools import partial

from germinal.generation.engine import Engine
from germinal.serving.errors import QueueFullError, StoppingError
from germinal.writing.driver import Driver
from germinal.writing.pending import Pending, Piece

logger = logging.getLogger("germinal.serving")


class Job:
    """A request for the engine, and the way back to the event loop in which the job is made.

    Args:
        pending: The request's sequences.
    """

    def __init__(self, pending: Pending) -> None:
        self.pending = pending
        self.answers = max(1, len(pending.streams))
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[Piece | Exception | None] = asyncio.Queue()

    async def pieces(self) -> AsyncIterator[Piece]:
        """What each step brings, until the request has finished; raises the engine's error if a step fails."""
        while (event := await self._events.get()) is not None:
            if isinstance(event, Exception):
                raise event
            yield event

    def hand_back(self, *events: Piece | Exception | None) -> None:
        """Give events to the event loop, from the engine's thread; None is the last one."""
        with suppress(RuntimeError):  # the loop is closed: nobody is waiting
            self._loop.call_soon_threadsafe(self._receive, events)

    def _receive(self, events: tuple[Piece | Exception | None, ...]) -> None:
        for event in events:
            self._events.put_nowait(event)


class EngineThread:
    """Runs an engine in a thread of its own.

    Args:
        make_engine: Makes the engine. After a step has failed it makes another, as the state of the first is unknown.
        max_answers: Answers that may be open, waiting or running, at the same time; more are refused.
    """

    def __init__(self, make_engine: Callable[[], Engine], max_answers: int = 256) -> None:
        self._make_engine = make_engine
        self._driver = Driver(make_engine())
        self._max_answers = max_answers
        self._commands: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._jobs: dict[Pending, Job] = {}
        self._lock = threading.Lock()
        self._open = 0
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="germinal-engine", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Finish the present step, end all jobs with a `StoppingError`, and end the thread."""
        with self._lock:
            self._stopping = True
        self._commands.put(None)
        if self._thread.is_alive():
            self._thread.join()

    @property
    def alive(self) -> bool:
        """Whether the thread runs and takes jobs."""
        return self._thread.is_alive() and not self._stopping

    @property
    def open_answers(self) -> int:
        """How many answers are waiting or running."""
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
        """End a job before the next step; harmless when it has ended."""
        self._commands.put(partial(self._cancel, job))

    def _run(self) -> None:
        while self._take_commands():
            if self._driver.has_work:
                self._step()
        self._fail_all(StoppingError())

    def _take_commands(self) -> bool:
        """Run the queued commands; wait for one only when the engine has no work. False if the thread has to stop."""
        wait = not self._driver.has_work
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
            for pending in self._driver.step():
                job = self._jobs[pending]
                job.hand_back(*pending.take())
                if pending.finished:
                    self._close(job, None)
        except Exception as error:
            logger.exception("a step of the engine failed; all open requests end with an error")
            self._fail_all(error)
            self._driver = Driver(self._make_engine())

    def _add(self, job: Job) -> None:
        self._jobs[job.pending] = job
        try:
            self._driver.add(job.pending)
        except Exception as error:
            self._close(job, error)

    def _cancel(self, job: Job) -> None:
        if job.pending in self._jobs:
            self._driver.cancel(job.pending)
            self._close(job, None)

    def _close(self, job: Job, event: Exception | None) -> None:
        del self._jobs[job.pending]
        with self._lock:
            self._open -= job.answers
        job.hand_back(event)

    def _fail_all(self, error: Exception) -> None:
        for job in list(self._jobs.values()):
            self._close(job, error)
