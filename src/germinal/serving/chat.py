"""A reply as OpenAI's objects: one `chat.completion`, or `chat.completion.chunk`s as server-sent events."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from fastapi.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from germinal.serving.errors import translated
from germinal.serving.requests import ChatRequest
from germinal.serving.service import Delta, Reply


class CompletionResponse(Response):
    """Sends a reply, whole or streamed, and cancels it when the client disconnects.

    Args:
        reply: The answer as it is generated.
        request: What was asked.
        model_id: The model's name.
    """

    def __init__(self, reply: Reply, request: ChatRequest, model_id: str) -> None:
        super().__init__()
        self._reply = reply
        self._request = request
        self._common = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": model_id}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer, and watch for the client's disconnecting meanwhile."""
        answer = self._stream(send) if self._request.stream else self._whole(scope, receive, send)
        sending = asyncio.ensure_future(answer)
        leaving = asyncio.ensure_future(_until_disconnect(receive))
        try:
            await asyncio.wait((sending, leaving), return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                sending.result()
        finally:
            self._reply.cancel()
            sending.cancel()
            leaving.cancel()
            await asyncio.gather(sending, leaving, return_exceptions=True)

    async def _whole(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            response = JSONResponse(await self._completion())
        except Exception as error:
            response = translated(error).response()
        await response(scope, receive, send)

    async def _completion(self) -> dict[str, Any]:
        choices: list[dict[str, Any]] = [self._empty_choice(index) for index in range(self._request.n)]
        async for delta in self._reply.deltas():
            choice = choices[delta.index]
            choice["message"]["content"] += delta.text
            choice["finish_reason"] = delta.finish_reason
            if self._request.logprobs:
                choice["logprobs"]["content"] += delta.logprobs
            if delta.germinal is not None:
                choice["germinal"] = delta.germinal
        usage = self._reply.usage.to_openai()
        return {**self._common, "object": "chat.completion", "choices": choices, "usage": usage}

    def _empty_choice(self, index: int) -> dict[str, Any]:
        message = {"role": "assistant", "content": "", "refusal": None}
        logprobs: dict[str, Any] | None = {"content": [], "refusal": None} if self._request.logprobs else None
        return {"index": index, "message": message, "logprobs": logprobs, "finish_reason": None}

    async def _stream(self, send: Send) -> None:
        headers = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        try:
            async for chunk in self._chunks():
                await _send_event(send, json.dumps(chunk, ensure_ascii=False, separators=(",", ":")))
            await _send_event(send, "[DONE]")
        except Exception as error:
            # The status has been sent already: OpenAI's clients raise on an event that holds an error.
            await _send_event(send, json.dumps(translated(error).body))
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _chunks(self) -> AsyncIterator[dict[str, Any]]:
        for index in range(self._request.n):
            yield self._chunk([{"index": index, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}])
        async for delta in self._reply.deltas():
            if delta.text or delta.logprobs or delta.finish_reason:
                yield self._chunk([self._choice(delta)])
        if self._request.wants_usage:
            yield self._chunk([]) | {"usage": self._reply.usage.to_openai()}

    def _choice(self, delta: Delta) -> dict[str, Any]:
        choice: dict[str, Any] = {"index": delta.index, "delta": {"content": delta.text} if delta.text else {}}
        if self._request.logprobs:
            choice["logprobs"] = {"content": delta.logprobs, "refusal": None}
        if delta.germinal is not None:
            choice["germinal"] = delta.germinal
        return {**choice, "finish_reason": delta.finish_reason}

    def _chunk(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        usage = {"usage": None} if self._request.wants_usage else {}
        return {**self._common, "object": "chat.completion.chunk", "choices": choices, **usage}


async def _send_event(send: Send, data: str) -> None:
    body = f"data: {data}\n\n".encode()
    await send({"type": "http.response.body", "body": body, "more_body": True})


async def _until_disconnect(receive: Callable[[], Awaitable[Any]]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
