"""The engine's thread: who leaves frees his place within a step, who is slow stalls nobody, failures stay contained."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import openai
import pytest
from servers import HELLO, GatedEngine, client_of, eventually, running, sent

import germinal
from germinal.generation.engine import Engine
from germinal.language_model import LanguageModel
from germinal.serving import ModelService
from germinal.serving.engine_thread import EngineThread

ENDLESS = {"model": "tiny", "messages": HELLO, "temperature": 0, "logit_bias": {"0": -100, "1": -100, "2": -100}}


@pytest.fixture(scope="module")
def lm(make_llama_folder: Callable[..., Path]) -> LanguageModel:
    return germinal.load(make_llama_folder(max_position_embeddings=512))


class Gate:
    """A running server whose engine makes the steps that the test allows."""

    def __init__(self, lm: LanguageModel, max_answers: int = 256) -> None:
        self.permits = threading.Semaphore(0)
        self.engine = GatedEngine(lm, self.permits)
        self.service = ModelService(lm, name="tiny")
        self.thread = EngineThread(lambda: self.engine, max_answers)
        self.service.engine_thread = self.thread

    def allow(self, steps: int) -> None:
        self.permits.release(steps)

    def noticed(self, open_before: int) -> bool:
        """Whether the thread has heard of a leaving client: it waits in a step with the news, or has acted already."""
        return not self.thread._commands.empty() or self.thread.open_answers < open_before


@contextmanager
def gated(lm: LanguageModel, **settings: Any) -> Iterator[tuple[Gate, str]]:
    gate = Gate(lm, **settings)
    with running(gate.service) as url:
        try:
            yield gate, url
        finally:
            gate.allow(100_000)


def events(response: httpx.Response) -> Iterator[str]:
    return (line.removeprefix("data: ") for line in response.iter_lines() if line)


@pytest.mark.parametrize("stream", [True, False], ids=["streaming", "whole"])
def test_a_client_that_leaves_frees_its_place_within_a_step(lm: LanguageModel, stream: bool) -> None:
    with gated(lm) as (gate, url):
        connection = sent(url, {**ENDLESS, "stream": stream})
        gate.allow(5)
        assert eventually(lambda: gate.engine.steps == 5 and gate.thread.open_answers == 1)
        if stream:
            assert connection.recv(15) == b"HTTP/1.1 200 OK"
        connection.close()
        assert eventually(lambda: gate.noticed(1)), "the server did not notice"
        gate.allow(1)  # the step that the engine was already in
        assert eventually(lambda: gate.thread.open_answers == 0)
        assert gate.engine.steps <= 6
        assert not gate.engine.has_work


def test_the_place_of_a_leaving_client_goes_to_one_that_waits(lm: LanguageModel) -> None:
    with gated(lm) as (gate, url), ThreadPoolExecutor(1) as pool, httpx.Client(timeout=60) as leaving:
        streams = [
            leaving.stream("POST", f"{url}/chat/completions", json={**ENDLESS, "stream": True}) for _ in range(4)
        ]
        opened = [stream.__enter__() for stream in streams]  # all four slots
        gate.allow(3)
        assert eventually(lambda: gate.engine.steps == 3 and gate.thread.open_answers == 4)
        waiting = pool.submit(client_of(url).chat.completions.create, **{**ENDLESS, "max_tokens": 4})
        assert eventually(lambda: gate.thread.open_answers == 5)
        gate.allow(10)
        assert eventually(lambda: gate.engine.steps == 13)
        assert not waiting.done()
        opened[1].close()
        assert eventually(lambda: gate.noticed(5))
        gate.allow(10)
        assert waiting.result(timeout=30).usage.completion_tokens == 4
        for response in opened:
            response.close()


def test_a_slow_client_stalls_nobody(lm: LanguageModel) -> None:
    request = {**ENDLESS, "n": 4, "logprobs": True, "top_logprobs": 20, "max_tokens": 400, "stream": True}
    with running(service := ModelService(lm, name="tiny"), send_buffer=8192) as url:
        place = urlsplit(url)
        slow = socket.socket()
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.connect((place.hostname, place.port))
        body = json.dumps(request).encode()
        head = f"POST /v1/chat/completions HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
        slow.sendall(f"{head}\r\n\r\n".encode() + body)
        assert eventually(lambda: service.engine_thread.open_answers == 4)
        client_of(url).chat.completions.create(**{**ENDLESS, "max_tokens": 3})
        # Nothing has been read, and far more than the socket's buffers hold has been generated.
        assert eventually(lambda: service.engine_thread.open_answers == 0, seconds=60)
        received = b"".join(iter(lambda: slow.recv(1 << 20), b""))
        slow.close()
    assert len(received) > 1_000_000
    assert received.rstrip().endswith(b"data: [DONE]")
    assert received.count(b'"finish_reason":"length"') == 4


def test_a_full_queue_answers_503_and_empties_again(lm: LanguageModel) -> None:
    with gated(lm, max_answers=3) as (gate, url), ThreadPoolExecutor(3) as pool:
        requests = [
            pool.submit(httpx.post, f"{url}/chat/completions", json={**ENDLESS, "max_tokens": 3}, timeout=60)
            for _ in range(3)
        ]
        assert eventually(lambda: gate.thread.open_answers == 3)
        refused = httpx.post(f"{url}/chat/completions", json=ENDLESS)
        assert refused.status_code == 503
        assert refused.json()["error"]["code"] == "overloaded"
        assert int(refused.headers["retry-after"]) >= 1
        assert httpx.get(url.removesuffix("/v1") + "/health").json()["open_answers"] == 3
        gate.allow(1000)
        assert [each.result().status_code for each in requests] == [200] * 3
        assert httpx.post(f"{url}/chat/completions", json={**ENDLESS, "max_tokens": 2}).status_code == 200


class BreakingEngine(GatedEngine):
    """Fails in its third step."""

    def step(self) -> Any:
        if self.steps == 2:
            raise RuntimeError("out of luck")
        return super().step()


def test_a_failing_step_ends_its_requests_and_the_next_ones_run(lm: LanguageModel) -> None:
    service = ModelService(lm, name="tiny")
    permits = threading.Semaphore(100_000)
    engines: list[Engine] = [BreakingEngine(lm, permits), GatedEngine(lm, permits)]
    service.engine_thread = EngineThread(lambda: engines.pop(0))
    with running(service) as url:
        failed = httpx.post(f"{url}/chat/completions", json=ENDLESS)
        assert failed.status_code == 500
        assert failed.json()["error"]["type"] == "server_error"
        assert "luck" not in failed.text, "our insides are none of the client's business"
        after = httpx.post(f"{url}/chat/completions", json={**ENDLESS, "max_tokens": 3})
        assert after.json()["usage"]["completion_tokens"] == 3


def test_a_failure_within_a_stream_reaches_the_client(lm: LanguageModel) -> None:
    service = ModelService(lm, name="tiny")
    permits = threading.Semaphore(100_000)
    engines: list[Engine] = [BreakingEngine(lm, permits), GatedEngine(lm, permits)]
    service.engine_thread = EngineThread(lambda: engines.pop(0))
    with running(service) as url, pytest.raises(openai.APIError, match="had an error"):
        list(client_of(url).chat.completions.create(**ENDLESS, stream=True))


def test_stopping_ends_what_runs(lm: LanguageModel) -> None:
    gate = Gate(lm)
    with ThreadPoolExecutor(1) as pool, running(gate.service) as url:
        request = pool.submit(httpx.post, f"{url}/chat/completions", json=ENDLESS, timeout=60)
        gate.allow(3)
        assert eventually(lambda: gate.engine.steps == 3)
        stopping = threading.Thread(target=gate.service.stop)
        stopping.start()
        assert eventually(lambda: gate.noticed(1))
        gate.allow(1)
        stopping.join(timeout=20)
        answer = request.result(timeout=20)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "stopping")
        late = httpx.post(f"{url}/chat/completions", json=ENDLESS)
        assert (late.status_code, late.json()["error"]["code"]) == (503, "stopping")
        health = httpx.get(url.removesuffix("/v1") + "/health")
        assert (health.status_code, health.json()["status"]) == (503, "stopped")
        assert gate.thread.open_answers == 0


def test_requests_share_the_batch(lm: LanguageModel) -> None:
    with gated(lm) as (gate, url), ThreadPoolExecutor(4) as pool:
        together = [
            pool.submit(httpx.post, f"{url}/chat/completions", json={**ENDLESS, "max_tokens": 50}, timeout=60)
            for _ in range(4)
        ]
        assert eventually(lambda: gate.thread.open_answers == 4)
        gate.allow(100_000)
        assert all(each.result().json()["usage"]["completion_tokens"] == 50 for each in together)
        assert gate.engine.steps < 2 * 50
