"""Everything that a server refuses, in OpenAI's shape: one object with message, type, param and code."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from servers import HELLO, client_of, running

import germinal
from germinal.serving import ModelService
from germinal.serving.requests import MAX_BODY_BYTES


@pytest.fixture(scope="module")
def lm(make_llama_folder: Callable[..., Path]) -> germinal.language_model.LanguageModel:
    return germinal.load(make_llama_folder(max_position_embeddings=128))


@pytest.fixture(scope="module")
def url(lm: Any) -> Iterator[str]:
    with running(ModelService(lm, name="tiny")) as url:
        yield url


def error_of(response: httpx.Response) -> dict[str, Any]:
    """The error object, whose shape is checked."""
    body = response.json()
    assert list(body) == ["error"]
    assert list(body["error"]) == ["message", "type", "param", "code"]
    assert body["error"]["message"]
    assert body["error"]["type"] == ("invalid_request_error" if response.status_code < 500 else "server_error")
    return body["error"]


def post(url: str, **fields: Any) -> httpx.Response:
    return httpx.post(f"{url}/chat/completions", json={"model": "tiny", "messages": HELLO, **fields})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("tools", [{"type": "function", "function": {"name": "f"}}]),
        ("tool_choice", "required"),
        ("functions", [{"name": "f"}]),
        ("response_format", {"type": "json_object"}),
        ("audio", {"voice": "x", "format": "wav"}),
        ("modalities", ["text", "audio"]),
        ("prediction", {"type": "content", "content": "x"}),
        ("reasoning_effort", "low"),
        ("service_tier", "flex"),
        ("store", True),
        ("web_search_options", {}),
        ("messages[0].tool_calls", [{}]),
    ],
)
def test_an_unsupported_field_is_refused_by_name(url: str, field: str, value: Any) -> None:
    fields = {field: value} if "." not in field else {"messages": [{**HELLO[0], field.partition(".")[2]: value}]}
    response = post(url, **fields)
    assert response.status_code == 400
    error = error_of(response)
    assert (error["param"], error["code"]) == (field, "unsupported_parameter")
    assert field in error["message"]


@pytest.mark.parametrize(
    ("param", "fields"),
    [
        ("temprature", {"temprature": 1}),
        ("max_new_tokens", {"max_new_tokens": 3}),
        ("num_beams", {"num_beams": 2}),
        ("stream_options.includeusage", {"stream": True, "stream_options": {"includeusage": True}}),
        ("messages[0].text", {"messages": [{"role": "user", "content": "x", "text": "y"}]}),
    ],
)
def test_an_unknown_field_is_refused_by_name(url: str, param: str, fields: dict[str, Any]) -> None:
    response = post(url, **fields)
    assert response.status_code == 400
    error = error_of(response)
    assert (error["param"], error["code"]) == (param, "unknown_parameter")


@pytest.mark.parametrize(
    ("param", "fields"),
    [
        ("temperature", {"temperature": -1}),
        ("temperature", {"temperature": 2.5}),
        ("temperature", {"temperature": "0"}),
        ("temperature", {"temperature": 10**400}),
        ("min_p", {"temperature": 1, "min_p": 10**400}),
        ("top_p", {"temperature": 1, "top_p": 0}),
        ("top_p", {"temperature": 0, "top_p": 7}),
        ("top_k", {"temperature": 1, "top_k": -3}),
        ("n", {"n": 0}),
        ("n", {"n": 129}),
        ("n", {"n": 1.5}),
        ("max_tokens", {"max_tokens": 1, "max_completion_tokens": 1}),
        ("max_completion_tokens", {"max_tokens": 0}),
        ("presence_penalty", {"presence_penalty": 3}),
        ("frequency_penalty", {"frequency_penalty": -2.5}),
        ("repetition_penalty", {"repetition_penalty": 0}),
        ("seed", {"seed": 0.5}),
        ("seed", {"seed": 2**70, "temperature": 1}),
        ("stop", {"stop": ""}),
        ("stop[0]", {"stop": [1]}),
        ("logit_bias", {"logit_bias": {"x": 1}}),
        ("logit_bias", {"logit_bias": {"999999": 1}}),
        ("logit_bias", {"logit_bias": {"5": 101}}),
        ("logit_bias.5", {"logit_bias": {"5": "1"}}),
        ("top_logprobs", {"top_logprobs": 2}),
        ("top_logprobs", {"logprobs": True, "top_logprobs": 21}),
        ("logprobs", {"logprobs": 3}),
        ("stream", {"stream": "yes"}),
        ("stream_options", {"stream_options": {"include_usage": True}}),
        ("messages", {"messages": []}),
        ("messages", {"messages": "hello"}),
        ("messages[0]", {"messages": ["hello"]}),
        ("messages[0].role", {"messages": [{"role": "tool", "content": "x"}]}),
        ("messages[1].content", {"messages": [*HELLO, {"role": "assistant", "content": 5}]}),
        ("messages[0].content", {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]}),
    ],
)
def test_a_bad_value_is_refused_by_name(url: str, param: str, fields: dict[str, Any]) -> None:
    response = post(url, **fields)
    assert response.status_code == 400
    error = error_of(response)
    assert (error["param"], error["code"]) == (param, "invalid_value")


@pytest.mark.parametrize("field", ["model", "messages", "messages[0].content", "messages[0].role"])
def test_a_missing_field_is_named(url: str, field: str) -> None:
    body: dict[str, Any] = {"model": "tiny", "messages": [dict(HELLO[0])]}
    del (body["messages"][0] if "." in field else body)[field.rpartition(".")[2]]
    response = httpx.post(f"{url}/chat/completions", json=body)
    error = error_of(response)
    assert (response.status_code, error["param"], error["code"]) == (400, field, "missing_required_parameter")


def test_what_the_client_raises(url: str) -> None:
    client = client_of(url)
    with pytest.raises(openai.BadRequestError, match="'tools' is not supported") as caught:
        client.chat.completions.create(
            model="tiny", messages=HELLO, tools=[{"type": "function", "function": {"name": "f", "parameters": {}}}]
        )
    assert (caught.value.param, caught.value.code) == ("tools", "unsupported_parameter")
    with pytest.raises(openai.NotFoundError, match="This server has 'tiny'"):
        client.chat.completions.create(model="gpt-4o", messages=HELLO)


def test_a_prompt_over_the_window(url: str) -> None:
    response = post(url, messages=[{"role": "user", "content": "long " * 200}], stream=True)
    error = error_of(response)
    assert (response.status_code, error["param"], error["code"]) == (400, "messages", "context_length_exceeded")
    assert "128" in error["message"]


def test_bodies_that_are_no_requests(url: str) -> None:
    place, json_type = f"{url}/chat/completions", {"Content-Type": "application/json"}
    for content in (b"{", b"[]", b"\xff\xfe", b"", b"[" * 200_000, b'{"\\ud800": 1}'):
        response = httpx.post(place, content=content, headers=json_type)
        assert (response.status_code, error_of(response)["code"]) == (400, "invalid_json")
    response = httpx.post(place, content=b"{}", headers={"Content-Type": "text/plain"})
    assert (response.status_code, error_of(response)["code"]) == (415, "unsupported_media_type")
    response = httpx.post(place, content=b" " * (MAX_BODY_BYTES + 1), headers=json_type)
    assert (response.status_code, error_of(response)["code"]) == (413, "request_too_large")


def test_unknown_places_and_methods(url: str) -> None:
    response = httpx.get(f"{url}/embeddings")
    assert (response.status_code, error_of(response)["code"]) == (404, "unknown_url")
    response = httpx.get(f"{url}/chat/completions")
    assert response.status_code == 405
    error_of(response)
    assert httpx.get(url.removesuffix("/v1") + "/docs").status_code == 404


def test_keys(lm: Any) -> None:
    with running(ModelService(lm, name="tiny"), api_keys=("first", "sécond")) as url:
        for key in ("first", "sécond"):
            headers = {"Authorization": f"Bearer {key}".encode()}
            assert httpx.get(f"{url}/models", headers=headers).status_code == 200
        for authorization in (None, "Bearer wrong", "Bearer firs", "Bearer first first", "Basic first", "Bearer"):
            headers = {"Authorization": authorization} if authorization else {}
            for response in (
                httpx.get(f"{url}/models", headers=headers),
                httpx.post(f"{url}/chat/completions", json={"model": "tiny", "messages": HELLO}, headers=headers),
            ):
                assert (response.status_code, error_of(response)["code"]) == (401, "invalid_api_key")
                assert response.headers["www-authenticate"] == "Bearer"
        assert httpx.get(url.removesuffix("/v1") + "/health").status_code == 200
        with pytest.raises(openai.AuthenticationError):
            client_of(url).models.list()
        assert client_of(url, api_key="first").models.list().data[0].id == "tiny"
