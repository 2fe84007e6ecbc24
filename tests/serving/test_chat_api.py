"""OpenAI's client against a real server over a tiny model: the answers are the library's, alone and under load."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from pathlib import Path
from typing import Any

import openai
import pytest
from servers import HELLO, OTHER_SETTINGS, client_of, running, streamed_text

import germinal
from germinal.errors import TemplateError
from germinal.generation.config import GenerationConfig
from germinal.language_model import LanguageModel
from germinal.serving import ModelService
from germinal.serving.errors import APIError
from germinal.serving.requests import ChatRequest, parse_chat_request
from germinal.serving.settings import generation_config

GREEDY = {"temperature": 0, "max_tokens": 12}


@pytest.fixture(scope="module")
def folder(make_llama_folder: Callable[..., Path]) -> Path:
    return make_llama_folder(max_position_embeddings=512)


@pytest.fixture(scope="module")
def lm(folder: Path) -> LanguageModel:
    return germinal.load(folder)


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[openai.OpenAI]:
    with running(ModelService(germinal.load(folder), name="tiny", num_slots=6)) as url:
        yield client_of(url)


def ask(client: openai.OpenAI, messages: Any = HELLO, **settings: Any) -> Any:
    return client.chat.completions.create(model="tiny", messages=messages, **settings)


def test_models(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["tiny"]
    assert client.models.retrieve("tiny").owned_by == "germinal"
    with pytest.raises(openai.NotFoundError, match="'huge' does not exist"):
        client.models.retrieve("huge")


def test_an_answer_is_the_librarys(client: openai.OpenAI, lm: LanguageModel) -> None:
    completion = ask(client, **GREEDY)
    expected = lm.generate(HELLO, max_new_tokens=12, temperature=0)
    (choice,) = completion.choices
    assert choice.message.content == expected.text
    assert choice.message.role == "assistant"
    assert choice.finish_reason == expected.finish_reason
    assert completion.usage.prompt_tokens == expected.usage.prompt_tokens
    assert completion.usage.completion_tokens == len(expected.token_ids)
    assert completion.usage.total_tokens == expected.usage.prompt_tokens + len(expected.token_ids)
    assert (completion.object, completion.model) == ("chat.completion", "tiny")


def test_a_stream_is_the_same_answer(client: openai.OpenAI) -> None:
    whole = ask(client, **GREEDY)
    chunks = list(ask(client, **GREEDY, stream=True, stream_options={"include_usage": True}))
    assert streamed_text(chunks) == whole.choices[0].message.content
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == whole.choices[0].finish_reason
    assert len(chunks) > 6, "the text came in one piece"
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
    assert all(chunk.usage is None for chunk in chunks[:-1])
    assert len({chunk.id for chunk in chunks}) == 1
    assert all(chunk.usage is None for chunk in ask(client, **GREEDY, stream=True))


SETTINGS: list[dict[str, Any]] = [
    {"temperature": 0},
    {"temperature": 1.2, "seed": 1},
    {"temperature": 1.2, "seed": 2, "top_p": 0.9},
    {"temperature": 0, "presence_penalty": 1.5, "frequency_penalty": 0.5},
    {"temperature": 0.9, "seed": 3, "extra_body": {"top_k": 20, "min_p": 0.01, "repetition_penalty": 1.3}},
    {"temperature": 0, "logit_bias": {"60": 5, "61": -100}},
    {"temperature": 1.0, "seed": 4, "n": 2},
    {"temperature": 0, "stop": ["a", "t"]},
]


def test_answers_under_load_equal_the_answers_alone(client: openai.OpenAI) -> None:
    requests = []
    for number in range(16):
        messages = [{"role": "user", "content": f"Review {number % 5}: " + "the plot was dull " * (number % 4)}]
        requests.append({"messages": messages, "max_tokens": 10 + number, **SETTINGS[number % len(SETTINGS)]})

    def texts(request: dict[str, Any], stream: bool) -> list[str]:
        if stream:
            chunks = list(ask(client, **request, stream=True))
            return [streamed_text(chunks, index) for index in range(request.get("n", 1))]
        return [choice.message.content for choice in ask(client, **request).choices]

    alone = [texts(request, stream=False) for request in requests]
    with ThreadPoolExecutor(16) as pool:
        together = list(pool.map(texts, requests, [number % 2 == 0 for number in range(16)]))
    assert together == alone
    assert len({text for each in alone for text in each}) > 10, "the answers hardly differ: the test says nothing"


def test_settings_mean_what_they_mean_in_the_library(client: openai.OpenAI, lm: LanguageModel) -> None:
    for over_http, in_python in (
        ({"temperature": 0.8, "seed": 5, "top_p": 0.9}, {"temperature": 0.8, "seed": 5, "top_p": 0.9}),
        ({"temperature": 0, "frequency_penalty": 1.0}, {"temperature": 0, "frequency_penalty": 1.0}),
        ({"temperature": 0, "logit_bias": {"60": 9.5}}, {"temperature": 0, "logit_bias": {60: 9.5}}),
        ({"temperature": 0, "stop": "a"}, {"temperature": 0, "stop": "a"}),
    ):
        expected = lm.generate(HELLO, max_new_tokens=16, **in_python)
        (choice,) = ask(client, max_completion_tokens=16, **over_http).choices
        assert (choice.message.content, choice.finish_reason) == (expected.text, expected.finish_reason)


def test_every_setting_is_taken_or_unknown() -> None:
    """A setting that is added tomorrow needs a value in the table, and a way through the request or none."""
    assert OTHER_SETTINGS.keys() == {field.name for field in fields(GenerationConfig)}
    for name, value in OTHER_SETTINGS.items():
        wire = {"model": "tiny", "messages": HELLO, "max_tokens" if name == "max_new_tokens" else name: value}
        if name == "max_new_tokens" or name in ChatRequest.model_fields:
            config = generation_config(parse_chat_request(wire), GenerationConfig(), room=100)
            assert name == "n" or getattr(config, name) != getattr(GenerationConfig(), name), name
        else:
            with pytest.raises(APIError, match=name):
                parse_chat_request(wire)


def test_a_models_own_beam_search_yields_to_a_client_who_asks_for_more(folder: Path) -> None:
    lm = germinal.load(folder)
    greedy = lm.generate(HELLO, max_new_tokens=8, temperature=0).text
    lm.writer.defaults = lm.generation_defaults.override(num_beams=3)
    searched = lm.generate(HELLO, max_new_tokens=8).text
    with running(ModelService(lm, name="tiny")) as url:
        client = client_of(url)
        assert ask(client, max_tokens=8).choices[0].message.content == searched != greedy
        for more in ({"n": 2, "temperature": 0}, {"logprobs": True}):
            texts = [choice.message.content for choice in ask(client, max_tokens=8, **more).choices]
            assert texts == [greedy] * len(texts)


def test_several_answers_are_the_librarys_and_differ(client: openai.OpenAI, lm: LanguageModel) -> None:
    completion = ask(client, n=3, seed=7, temperature=1.0, max_tokens=8)
    texts = [choice.message.content for choice in completion.choices]
    assert texts == [each.text for each in lm.generate(HELLO, n=3, seed=7, temperature=1.0, max_new_tokens=8)]
    assert len(set(texts)) == 3
    assert completion.usage.completion_tokens == sum(
        len(each.token_ids) for each in lm.generate(HELLO, n=3, seed=7, temperature=1.0, max_new_tokens=8)
    )


def test_log_probabilities(client: openai.OpenAI, lm: LanguageModel) -> None:
    expected = lm.generate(HELLO, max_new_tokens=5, temperature=0, logprobs=3)
    whole = ask(client, temperature=0, max_tokens=5, logprobs=True, top_logprobs=3).choices[0].logprobs.content
    assert [entry.logprob for entry in whole] == pytest.approx([token.logprob for token in expected.logprobs], abs=1e-4)
    for entry, token in zip(whole, expected.logprobs, strict=True):
        assert bytes(entry.bytes) == lm.tokenizer.token_bytes(token.id)
        assert entry.token == bytes(entry.bytes).decode(errors="replace")
        assert [bytes(top.bytes) for top in entry.top_logprobs] == [
            lm.tokenizer.token_bytes(id) for id, _ in token.top_logprobs
        ]
    chunks = list(ask(client, temperature=0, max_tokens=5, logprobs=True, stream=True))
    streamed = [entry for chunk in chunks if chunk.choices[0].logprobs for entry in chunk.choices[0].logprobs.content]
    assert [entry.token for entry in streamed] == [entry.token for entry in whole]
    assert all(entry.top_logprobs == [] for entry in streamed)
    assert ask(client, **GREEDY).choices[0].logprobs is None


def test_without_a_temperature_the_models_own_defaults_hold(client: openai.OpenAI) -> None:
    greedy = ask(client, **GREEDY).choices[0].message.content
    assert ask(client, max_tokens=12).choices[0].message.content == greedy
    assert len({choice.message.content for choice in ask(client, max_tokens=12, n=3).choices}) > 1
    seeded = [ask(client, max_tokens=12, seed=seed).choices[0].message.content for seed in (1, 1, 2)]
    assert seeded[0] == seeded[1] != seeded[2]


def test_habits_of_clients_are_accepted(client: openai.OpenAI) -> None:
    plain = ask(client, **GREEDY).choices[0].message.content
    habits = {
        "top_p": 0.9,
        "seed": 3,
        "user": "me",
        "metadata": {"a": "b"},
        "tools": [],
        "response_format": {"type": "text"},
        "stop": None,
        "n": None,
        "store": False,
        "parallel_tool_calls": True,
        "presence_penalty": 0,
        "logit_bias": {},
    }
    assert ask(client, **GREEDY, **habits).choices[0].message.content == plain
    parts = [
        {
            "role": "user",
            "content": [{"type": "text", "text": text} for text in ("Classify this", HELLO[0]["content"][13:])],
        }
    ]
    assert ask(client, parts, **GREEDY).choices[0].message.content == plain
    echoed = ask(client, **GREEDY).choices[0].message.model_dump()
    assert ask(client, [*HELLO, echoed, *HELLO], **GREEDY).choices[0].finish_reason
    as_system, as_developer = (
        ask(client, [{"role": role, "content": "be brief"}, *HELLO], **GREEDY) for role in ("system", "developer")
    )
    assert as_system.choices[0].message.content == as_developer.choices[0].message.content
    same = ask(client, temperature=0, max_tokens=6, n=2)
    assert same.choices[0].message.content == same.choices[1].message.content


def test_an_answer_ends_at_the_context_window(client: openai.OpenAI) -> None:
    bias = {"2": -100, "0": -100, "1": -100}
    completion = ask(client, temperature=0, max_tokens=100_000, logit_bias=bias)
    assert completion.choices[0].finish_reason == "length"
    assert completion.usage.total_tokens == 512


def test_a_model_without_a_chat_template_is_refused_at_once(folder: Path) -> None:
    lm = germinal.load(folder)
    lm.tokenizer.chat_template = None
    with pytest.raises(TemplateError, match="no chat template"):
        ModelService(lm)
