"""Real servers in threads of this process, clients to talk to them, and an engine that steps only when it may."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import openai
import uvicorn

from germinal.generation.backends.torch_backend import TorchBackend
from germinal.generation.engine import Engine
from germinal.generation.sequence import Sequence
from germinal.language_model import LanguageModel
from germinal.serving import create_app
from germinal.serving.server import listen, url_of
from germinal.serving.service import Service

OTHER_SETTINGS: dict[str, Any] = {
    "max_new_tokens": 3,
    "temperature": 0.7,
    "top_k": 5,
    "top_p": 0.9,
    "min_p": 0.1,
    "repetition_penalty": 1.3,
    "presence_penalty": 0.5,
    "frequency_penalty": 0.5,
    "no_repeat_ngram_size": 2,
    "min_new_tokens": 2,
    "forced_bos_id": 5,
    "forced_eos_id": 5,
    "logit_bias": {"5": 1},
    "stop": ["x"],
    "eos_ids": [5],
    "seed": 1,
    "n": 2,
    "num_beams": 2,
    "length_penalty": 2.0,
    "early_stopping": True,
    "renormalize_logits": True,
    "logprobs": True,
}
"""A value of every setting, other than its default."""

HELLO = [{"role": "user", "content": "Classify this review: I loved this movie!"}]


@contextmanager
def running(service: Service, api_keys: tuple[str, ...] = (), send_buffer: int | None = None) -> Iterator[str]:
    """Serve in a thread; the base URL."""
    listener = listen("127.0.0.1", 0)
    if send_buffer is not None:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
    server = uvicorn.Server(
        uvicorn.Config(create_app(service, api_keys), log_level="error", timeout_graceful_shutdown=5)
    )
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield url_of(listener)
    finally:
        server.should_exit = True
        thread.join(timeout=30)
        listener.close()
        assert not thread.is_alive()


def client_of(url: str, **settings: Any) -> openai.OpenAI:
    """OpenAI's own client."""
    return openai.OpenAI(base_url=url, **{"api_key": "none", "max_retries": 0, "timeout": 60, **settings})


def sent(url: str, body: dict[str, Any]) -> socket.socket:
    """A connection on which a chat completion has been asked for; whoever closes it leaves before the answer."""
    place, content = urlsplit(url), json.dumps(body).encode()
    connection = socket.create_connection((place.hostname, place.port))
    connection.sendall(
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        + f"Content-Length: {len(content)}\r\n\r\n".encode()
        + content
    )
    return connection


def streamed_text(chunks: Any, index: int = 0) -> str:
    """The text of one choice of a stream."""
    choices = [choice for chunk in chunks for choice in chunk.choices if choice.index == index]
    return "".join(choice.delta.content or "" for choice in choices)


def eventually(holds: Callable[[], bool], seconds: float = 60) -> bool:
    """Whether something comes to hold in time."""
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(0.005)
    return True


class GatedEngine(Engine):
    """An engine whose steps wait for permission."""

    def __init__(self, lm: LanguageModel, permits: threading.Semaphore) -> None:
        super().__init__(TorchBackend(lm.network, num_slots=4))
        self.permits = permits
        self.steps = 0

    def step(self) -> list[Sequence]:
        self.permits.acquire()
        self.steps += 1
        return super().step()
