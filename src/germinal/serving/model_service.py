"""A plain model as a service: messages go through its chat template, all requests through one engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

from germinal.errors import TemplateError
from germinal.generation.config import GenerationConfig
from germinal.generation.sampler import SampledToken
from germinal.language_model import LanguageModel
from germinal.serving.engine_thread import EngineThread, Job
from germinal.serving.requests import ChatRequest
from germinal.serving.service import Delta, Usage
from germinal.serving.settings import generation_config
from germinal.text.tokenizer import Tokenizer
from germinal.writing.pending import Pending, Piece
from germinal.writing.request import Request

NUM_SLOTS = 16
"""Sequences that run at the same time; further ones wait."""

MAX_ANSWERS = 256
"""Answers that may be open, waiting or running, at the same time; a request for more gets status 503."""

MAX_NEW_TOKENS = 1024
"""Most tokens of an answer if neither client nor checkpoint sets a limit; OpenAI's interface has no default."""


class ModelService:
    """Serves a language model's chat.

    Args:
        lm: The model. From now on only the engine's thread may run it.
        name: The name by which clients ask for it; None takes the model's own.
        num_slots: Sequences that run at the same time.
        max_answers: Answers that may be open at the same time.

    Raises:
        TemplateError: the model has no chat template.
    """

    def __init__(
        self, lm: LanguageModel, name: str | None = None, *, num_slots: int = NUM_SLOTS, max_answers: int = MAX_ANSWERS
    ) -> None:
        if lm.tokenizer.chat_template is None:
            raise TemplateError(
                "the model has no chat template, so it cannot answer messages.",
                where=lm.card.name,
                hint="Serve a model that was tuned for chat, or a project that uses this one.",
            )
        self.model_id = name or lm.card.name
        self._lm = lm
        self._defaults = lm.generation_defaults.override(eos_ids=lm.writer.ends(chat=True))
        if "max_new_tokens" not in lm.hf_generation_config:
            self._defaults = self._defaults.override(max_new_tokens=MAX_NEW_TOKENS)
        self.engine_thread = EngineThread(partial(lm.writer.make_engine, num_slots), max_answers)

    def start(self) -> None:
        """See `Service.start`."""
        self.engine_thread.start()

    def stop(self) -> None:
        """See `Service.stop`."""
        self.engine_thread.stop()

    def health(self) -> dict[str, Any] | None:
        """See `Service.health`."""
        return {"open_answers": self.engine_thread.open_answers} if self.engine_thread.alive else None

    async def answer(self, request: ChatRequest) -> ModelReply:
        """See `Service.answer`."""
        job = Job(await asyncio.to_thread(self._pending, request))
        self.engine_thread.submit(job)
        return ModelReply(job, self.engine_thread, self._lm.tokenizer)

    def _pending(self, request: ChatRequest) -> Pending:
        prompt_ids = self._lm.encode_prompt([message.for_template() for message in request.messages])
        config = self._config(request, len(prompt_ids))
        pending = self._lm.writer.pending(Request(prompt_ids, config, adapter=self._lm.adapter, answers=request.n))
        pending.lead.check_fits(self._lm.config.max_position_embeddings)  # while the status can still say so
        return pending

    def _config(self, request: ChatRequest, prompt_tokens: int) -> GenerationConfig:
        window = self._lm.context_window
        room = max(1, window - (1 if self._lm.two_stacks else prompt_tokens))  # the encoder has its own window
        counted = self._lm.writer.max_length is not None  # the checkpoint's limit, which counts the prompt
        defaults = self._lm.writer.generation_config({}, prompt_tokens, chat=True) if counted else self._defaults
        config = generation_config(request, defaults, room)
        config.check_vocabulary(self._lm.config.vocab_size)
        return config


class ModelReply:
    """The answers of a job as they are generated."""

    def __init__(self, job: Job, engine_thread: EngineThread, tokenizer: Tokenizer) -> None:
        self.usage = Usage(prompt_tokens=job.pending.lead.prompt_tokens)
        self._job = job
        self._engine_thread = engine_thread
        self._tokenizer = tokenizer

    async def deltas(self) -> AsyncIterator[Delta]:
        """See `Reply.deltas`."""
        async for piece in self._job.pieces():
            self.usage.completion_tokens += len(piece.tokens)
            yield Delta(piece.index, piece.text, self._logprobs(piece), piece.finish_reason)
        self.usage.cached_tokens = self._job.pending.lead.cached_prompt_tokens

    def cancel(self) -> None:
        """See `Reply.cancel`."""
        self._engine_thread.cancel(self._job)

    def _logprobs(self, piece: Piece) -> list[dict[str, Any]]:
        return [self._token_logprobs(token) for token in piece.tokens if token.logprob is not None]

    def _token_logprobs(self, token: SampledToken) -> dict[str, Any]:
        assert token.logprob is not None
        likeliest = [self._logprob(id, logprob) for id, logprob in token.top_logprobs]
        return self._logprob(token.id, token.logprob) | {"top_logprobs": likeliest}

    def _logprob(self, token_id: int, logprob: float) -> dict[str, Any]:
        as_bytes = self._tokenizer.token_bytes(token_id) if self._tokenizer.has_piece(token_id) else b""
        return {"token": as_bytes.decode(errors="replace"), "logprob": logprob, "bytes": list(as_bytes)}
