"""A project's winner as a service: the client sends a bare input and gets the label, or the text.

The input is the last message, which must be the user's. Prompt, shots, adapter, answer rule and generation settings are
the predictor's own, and a request for other settings is refused, except that a text may be shorter. The content of the
reply is the label, or the text, which is streamed as it is generated. Beside OpenAI's fields the choice (in a stream
its last chunk) has one of our own:

    "germinal": {"label": "pos", "probabilities": {"neg": 0.1, "pos": 0.9}, "error": null,
                 "unread_messages": 0, "dropped_examples": 0, "truncated_tokens": 0}

`label` is null if the generated text begins with none of the labels (`error` says so, and the content is that text),
and for tasks whose answers are texts. `probabilities` is null under the rule "generate". `unread_messages` counts the
messages before the last one, which no predictor reads.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from germinal.predictors.answers import Answer, Output
from germinal.predictors.language_model_predictor import WANTED, LanguageModelPredictor
from germinal.predictors.predictor import FittedPredictor, Predictor
from germinal.serving.engine_thread import EngineThread, Job
from germinal.serving.errors import APIError, QueueFullError
from germinal.serving.model_service import MAX_ANSWERS, NUM_SLOTS
from germinal.serving.requests import ChatRequest
from germinal.serving.service import Delta, Reply, Usage
from germinal.serving.settings import refuse_settings, settings_of
from germinal.text.context_window import FittedPrompt
from germinal.writing.request import Request


class PredictorService:
    """Serves a predictor: a language model with the prompt and all else of a trial, a model with a head, or a baseline.

    Args:
        predictor: What answers. From now on only the engine's thread may run its language model.
        name: The name by which clients ask for it.
        num_slots: Sequences that run at the same time.
        max_answers: Answers that may be open, waiting or running, at the same time.
    """

    def __init__(
        self, predictor: Predictor, name: str, *, num_slots: int = NUM_SLOTS, max_answers: int = MAX_ANSWERS
    ) -> None:
        self.model_id = name
        self._predictor = predictor
        self._max_answers = max_answers
        self._open = 0  # without an engine, inputs are answered one at a time
        self._turn = asyncio.Lock()
        self.engine_thread: EngineThread | None = None
        if isinstance(predictor, LanguageModelPredictor):
            self.engine_thread = EngineThread(partial(predictor.lm.writer.make_engine, num_slots), max_answers)

    def start(self) -> None:
        """See `Service.start`."""
        if self.engine_thread is not None:
            self.engine_thread.start()

    def stop(self) -> None:
        """See `Service.stop`."""
        if self.engine_thread is not None:
            self.engine_thread.stop()

    def health(self) -> dict[str, Any] | None:
        """See `Service.health`."""
        if self.engine_thread is None:
            return {"open_answers": self._open}
        return {"open_answers": self.engine_thread.open_answers} if self.engine_thread.alive else None

    async def answer(self, request: ChatRequest) -> Reply:
        """See `Service.answer`."""
        settings = settings_of(request)
        refuse_settings(settings, sampled=_is_sampled(self._predictor))
        input, unread = _input_of(request)
        if not isinstance(self._predictor, LanguageModelPredictor):
            return await self._answer_in_turn(self._predictor, input, unread)
        assert self.engine_thread is not None
        wanted, fitted = await asyncio.to_thread(self._predictor.request, input)
        if self._predictor.labels is None:
            wanted = _at_most(wanted, settings.get("max_new_tokens"))
        job = Job(self._predictor.lm.writer.pending(wanted))
        self.engine_thread.submit(job)
        return PredictorReply(self._predictor, fitted, job, self.engine_thread, unread)

    async def _answer_in_turn(self, predictor: Predictor, input: str, unread: int) -> FittedReply:
        if self._open >= self._max_answers:
            raise QueueFullError
        self._open += 1
        try:
            async with self._turn:
                return await asyncio.to_thread(_answered, predictor, input, unread)
        finally:
            self._open -= 1


class PredictorReply:
    """A language model's answer by the predictor's rule: a label comes at the end, a text as it is generated."""

    def __init__(
        self,
        predictor: LanguageModelPredictor,
        fitted: FittedPrompt,
        job: Job,
        engine_thread: EngineThread,
        unread: int,
    ) -> None:
        self.usage = Usage(prompt_tokens=len(fitted.ids))
        self._predictor = predictor
        self._fitted = fitted
        self._job = job
        self._engine_thread = engine_thread
        self._unread = unread

    async def deltas(self) -> AsyncIterator[Delta]:
        """See `Reply.deltas`."""
        text = _Stripped()
        async for piece in self._job.pieces():
            if self._predictor.labels is None and (shown := text.push(piece.text)):
                yield Delta(0, shown)
        output = self._predictor.output(self._job.pending.response(), self._fitted)
        answer = self._predictor.answer(output)
        self.usage.completion_tokens = self._completion_tokens(output, answer)
        self.usage.cached_tokens = self._job.pending.lead.cached_prompt_tokens
        last = _delta(answer, self._unread, output)
        yield (
            last
            if self._predictor.labels is not None
            else replace(last, text="", finish_reason=output.finish_reason or "stop")
        )

    def cancel(self) -> None:
        """See `Reply.cancel`."""
        self._engine_thread.cancel(self._job)

    def _completion_tokens(self, output: Output, answer: Answer) -> int:
        """Tokens of the generated text, or of the label's word if continuations were scored."""
        if output.text is not None or answer.label is None:
            return len(output.token_ids)
        return len(self._predictor.continuation_ids[answer.label])


class _Stripped:
    """A text that comes in pieces, without the white space at both ends."""

    def __init__(self) -> None:
        self._held = ""
        self._started = False

    def push(self, piece: str) -> str:
        """The part of the text that may be shown now; white space is held back until other text follows."""
        text = self._held + piece
        if not self._started:
            text = text.lstrip()
        shown = text.rstrip()
        self._held = text[len(shown) :]
        self._started = self._started or bool(shown)
        return shown


class FittedReply:
    """The answer of a model with a head, or of a baseline.

    Args:
        answer: The whole answer.
        read: What a network read for it; empty for a baseline.
        unread: Messages before the last one.
    """

    def __init__(self, answer: Answer, read: Sequence[FittedPrompt], unread: int) -> None:
        self.usage = Usage(prompt_tokens=sum(len(each.ids) for each in read))
        self._output = Output(truncated_tokens=sum(each.truncated_tokens for each in read))
        self._answer = answer
        self._unread = unread

    async def deltas(self) -> AsyncIterator[Delta]:
        """See `Reply.deltas`."""
        yield _delta(self._answer, self._unread, self._output)

    def cancel(self) -> None:
        """See `Reply.cancel`; nothing is held."""


def _answered(predictor: Predictor, input: str, unread: int) -> FittedReply:
    """The reply of a predictor that answers without an engine."""
    (answer,) = predictor.predict([input])
    return FittedReply(answer, predictor.read([input]) if isinstance(predictor, FittedPredictor) else (), unread)


def _delta(answer: Answer, unread: int, output: Output) -> Delta:
    said = {
        "label": answer.label,
        "probabilities": None if answer.probabilities is None else dict(answer.probabilities),
        "error": answer.error,
        "unread_messages": unread,
        "dropped_examples": output.dropped_examples,
        "truncated_tokens": output.truncated_tokens,
    }
    content = answer.text if answer.label is None else answer.label
    return Delta(0, content, finish_reason="stop", germinal=said)


def _at_most(wanted: Request, longest: int | None) -> Request:
    """The request with at most `longest` generated tokens, if its own limit is not lower."""
    if longest is None or wanted.generation is None or longest >= wanted.generation.max_new_tokens:
        return wanted
    return replace(wanted, generation=wanted.generation.override(max_new_tokens=longest))


def _input_of(request: ChatRequest) -> tuple[str, int]:
    """The text of the last message, and the number of messages before it."""
    last = request.messages[-1]
    if last.role != "user":
        message = "The last message must be the user's: it is the input to answer."
        raise APIError(message, param=f"messages[{len(request.messages) - 1}].role", code="invalid_value")
    return last.content, len(request.messages) - 1


def _is_sampled(predictor: Predictor) -> bool:
    """Whether answers depend on tokens that are drawn at random."""
    return (
        isinstance(predictor, LanguageModelPredictor)
        and WANTED[predictor.rule] == "generate"
        and not predictor.generation.greedy
    )
