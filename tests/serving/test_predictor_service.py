"""A project's winner behind OpenAI's client: the predictor's own answers, with probabilities, alone and under load."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from servers import OTHER_SETTINGS, client_of, eventually, running, sent, streamed_text
from tiny_encoders import save_encoder

import germinal
from germinal.predictors.answers import CONTENT_FREE_INPUTS, RULES, Answer, Labels, priors_from
from germinal.predictors.baselines import TfidfPredictor
from germinal.predictors.classifier_predictor import ClassifierPredictor
from germinal.predictors.language_model_predictor import LanguageModelPredictor
from germinal.progress import Reporter, silent
from germinal.serving import PredictorService
from germinal.serving.errors import APIError
from germinal.serving.requests import ChatRequest
from germinal.text.context_window import ContextWindow
from germinal.text.prompt import Example, Prompt

LABELS = Labels({"pos": "Positive", "neg": "Negative"})
SHOTS = [Example("I loved this movie!", "Positive"), Example("The plot was dull.", "Negative")]
REVIEWS = [
    f"{start} {end}."
    for start in ("A film that is", "The acting was", "Nobody should say it is")
    for end in ("warm", "dull and worse", "funny and true", "of 1989", "for the system", "é 🎬")
]


@pytest.fixture(scope="module")
def predictors(make_llama_folder: Callable[..., Path]) -> dict[str, LanguageModelPredictor]:
    """One for each rule, each with a model of its own; the last one in chat form."""
    folder = make_llama_folder(max_position_embeddings=512)
    made = {}
    for rule in RULES:
        prompt = Prompt("Classify this review:", "Sentiment:", chat=rule == "calibrated")
        settings: dict[str, Any] = {"examples": SHOTS}
        lm = germinal.load(folder)
        if rule == "calibrated":
            plain = LanguageModelPredictor(lm, prompt, LABELS, **settings)
            settings["priors"] = priors_from([output for _, output in plain.outputs(CONTENT_FREE_INPUTS)], LABELS)
        made[rule] = LanguageModelPredictor(lm, prompt, LABELS, rule, **settings)
    return made


@pytest.fixture(scope="module")
def expected(predictors: dict[str, LanguageModelPredictor]) -> dict[str, list[Any]]:
    """The predictors' own answers, before a server takes their models."""
    return {rule: predictor.predict(REVIEWS) for rule, predictor in predictors.items()}


@pytest.fixture(scope="module")
def clients(predictors: dict[str, Any], expected: dict[str, Any]) -> Iterator[dict[str, openai.OpenAI]]:
    with ExitStack() as stack:
        services = {rule: PredictorService(predictor, "reviews") for rule, predictor in predictors.items()}
        yield {rule: client_of(stack.enter_context(running(service))) for rule, service in services.items()}


def ask(client: openai.OpenAI, review: str, **settings: Any) -> Any:
    messages = [{"role": "user", "content": review}]
    return client.chat.completions.create(model="reviews", messages=messages, **settings)


@pytest.mark.parametrize("rule", RULES)
def test_sixteen_at_once_get_the_predictors_answers(clients: Any, expected: Any, rule: str) -> None:
    with ThreadPoolExecutor(16) as pool:
        completions = list(pool.map(lambda review: ask(clients[rule], review), REVIEWS))
    for completion, answer in zip(completions, expected[rule], strict=True):
        (choice,) = completion.choices
        said = choice.model_extra["germinal"]
        assert said["label"] == answer.label
        assert said["error"] == answer.error
        assert said["probabilities"] == (answer.probabilities and pytest.approx(dict(answer.probabilities), abs=1e-4))
        assert choice.message.content == (answer.text if answer.label is None else answer.label)
        assert choice.finish_reason == "stop"
        assert completion.usage.prompt_tokens > 20
    assert sum(completion.usage.prompt_tokens_details.cached_tokens for completion in completions) > 200


def test_the_rules_differ_and_some_answers_fail(expected: Any) -> None:
    """Else the test above would not tell one rule from another."""
    assert all(answer.label is None for answer in expected["generate"])
    assert {answer.label for answer in expected["likelihood"] + expected["calibrated"]} == {"pos", "neg"}


@pytest.mark.parametrize("rule", RULES)
def test_a_stream_says_the_same(clients: Any, expected: Any, rule: str) -> None:
    chunks = list(ask(clients[rule], REVIEWS[0], stream=True, stream_options={"include_usage": True}))
    answer = expected[rule][0]
    assert streamed_text(chunks) == (answer.text if answer.label is None else answer.label)
    assert chunks[-2].choices[0].model_extra["germinal"]["label"] == answer.label
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].usage.prompt_tokens > 20


def test_the_input_is_the_last_user_message(clients: Any, expected: Any) -> None:
    messages = [
        {"role": "system", "content": "You are a pirate."},
        {"role": "user", "content": REVIEWS[1]},
        {"role": "assistant", "content": "neg"},
        {"role": "user", "content": [{"type": "text", "text": REVIEWS[0]}]},
    ]
    client = clients["likelihood"]
    completion = client.chat.completions.create(model="reviews", messages=messages)
    said = completion.choices[0].model_extra["germinal"]
    assert said["unread_messages"] == 3
    assert said["probabilities"] == pytest.approx(dict(expected["likelihood"][0].probabilities), abs=1e-4)
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="reviews", messages=messages[:3])
    assert caught.value.param == "messages[2].role"


@pytest.fixture(scope="module")
def drawing(llama_folder: Path) -> LanguageModelPredictor:
    """A predictor whose answers are texts that are drawn at random: every setting of sampling would change them."""
    predictor = LanguageModelPredictor(germinal.load(llama_folder), Prompt("Summarize:", "Summary:"), None, "generate")
    predictor.generation = predictor.generation.override(max_new_tokens=8, temperature=0.9, seed=1)
    return predictor


@pytest.fixture(scope="module")
def served(drawing: LanguageModelPredictor, clients: dict[str, openai.OpenAI]) -> Iterator[dict[str, str]]:
    """URLs of projects that draw texts, take the likeliest label, and are a plain baseline."""
    baseline = TfidfPredictor.fit(["good", "very good", "bad", "so bad"], ["pos", "pos", "neg", "neg"])
    with ExitStack() as stack:
        yield {
            "texts": stack.enter_context(running(PredictorService(drawing, "reviews"))),
            "labels": str(clients["likelihood"].base_url).rstrip("/"),
            "baseline": stack.enter_context(running(PredictorService(baseline, "reviews"))),
        }


def post(url: str, **fields: Any) -> httpx.Response:
    body = {"model": "reviews", "messages": [{"role": "user", "content": REVIEWS[0]}], **fields}
    return httpx.post(f"{url}/chat/completions", json=body, timeout=60)


@pytest.mark.parametrize("name", OTHER_SETTINGS)
@pytest.mark.parametrize("project", ["texts", "labels", "baseline"])
def test_no_setting_is_taken_in_silence(served: dict[str, str], project: str, name: str) -> None:
    response = post(served[project], **{name: OTHER_SETTINGS[name]})
    if name in ("top_p", "seed") and project != "texts":  # sent by habit, and nothing is drawn at random
        assert response.status_code == 200
        return
    error = response.json()["error"]
    offered = name in ChatRequest.model_fields
    assert (response.status_code, error["param"]) == (400, name)
    assert error["code"] == ("unsupported_parameter" if offered else "unknown_parameter")
    assert ("by its own settings" in error["message"]) == offered


@pytest.mark.parametrize(
    "wrong",
    [
        {"top_p": 7},
        {"top_p": 0},
        {"top_k": -3},
        {"top_k": 1.5},
        {"min_p": 2},
        {"temperature": -1},
        {"repetition_penalty": 0},
        {"presence_penalty": 3},
        {"seed": 2**70},
        {"stop": ""},
        {"n": 0},
        {"logit_bias": {"5": 101}},
        {"max_completion_tokens": 0},
        {"max_completion_tokens": -5},
        {"max_completion_tokens": 2.5},
        {"max_tokens": 0},
        {"max_tokens": -5},
    ],
    ids=str,
)
@pytest.mark.parametrize("project", ["texts", "labels", "baseline"])
def test_a_value_out_of_range_is_refused(served: dict[str, str], project: str, wrong: dict[str, Any]) -> None:
    (name,) = wrong
    error = post(served[project], **wrong).json()["error"]
    assert (error["param"].removeprefix("max_completion_"), error["code"]) == (
        name.removeprefix("max_completion_").removeprefix("max_"),
        "invalid_value",
    )


@pytest.mark.parametrize("project", ["texts", "labels", "baseline"])
def test_values_that_ask_for_nothing_are_taken(served: dict[str, str], project: str) -> None:
    nothing = {
        "temperature": 0,
        "top_p": 1,
        "top_k": 0,
        "min_p": 0,
        "n": 1,
        "seed": None,
        "stop": None,
        "logprobs": False,
        "logit_bias": {},
        "presence_penalty": 0,
        "frequency_penalty": 0,
        "repetition_penalty": 1,
        "max_tokens": 5,
    }
    assert post(served[project], **nothing).status_code == 200
    assert post(served[project], **dict.fromkeys(nothing)).status_code == 200
    assert post(served[project], stop=[]).status_code == 200


def test_a_setting_that_is_offered_tomorrow_is_refused_too(drawing: LanguageModelPredictor) -> None:
    class Tomorrow(ChatRequest):
        no_repeat_ngram_size: int | None = None
        length_penalty: float | None = None

    service = PredictorService(drawing, "reviews")
    message = {"role": "user", "content": REVIEWS[0]}
    for settings in ({"no_repeat_ngram_size": 2}, {"length_penalty": 2.0}):
        request = Tomorrow.model_validate({"model": "reviews", "messages": [message], **settings})
        with pytest.raises(APIError, match=next(iter(settings))):
            asyncio.run(service.answer(request))


def test_a_label_that_is_drawn_at_random_takes_no_seed(llama_folder: Path) -> None:
    predictor = LanguageModelPredictor(germinal.load(llama_folder), Prompt("Classify:", "Is:"), LABELS, "generate")
    predictor.generation = predictor.generation.override(temperature=0.9, seed=1)
    with running(PredictorService(predictor, "reviews")) as url:
        assert post(url, seed=2).json()["error"]["param"] == "seed"
        assert post(url).status_code == 200


def test_settings_without_effect_are_accepted(clients: Any, expected: Any) -> None:
    completion = ask(clients["likelihood"], REVIEWS[0], temperature=0, seed=1, top_p=0.9, max_tokens=5, n=1, stop=[])
    assert completion.choices[0].message.content == expected["likelihood"][0].label


def test_an_input_over_the_window(clients: Any) -> None:
    with pytest.raises(openai.BadRequestError, match="512") as caught:
        ask(clients["likelihood"], "dull " * 500)
    assert (caught.value.param, caught.value.code) == ("messages", "context_length_exceeded")


def test_a_baseline_is_served_too() -> None:
    predictor = TfidfPredictor.fit(["good", "very good", "bad", "so bad"], ["pos", "pos", "neg", "neg"])
    with running(PredictorService(predictor, "reviews")) as url:
        client = client_of(url)
        assert client.models.list().data[0].id == "reviews"
        completion = ask(client, "a good film")
        assert completion.choices[0].message.content == "pos"
        (answer,) = predictor.predict(["a good film"])
        assert completion.choices[0].model_extra["germinal"]["probabilities"] == answer.probabilities
        assert streamed_text(ask(client, "a bad film", stream=True)) == "neg"


def test_leaving_clients_free_the_engine(predictors: Any, expected: Any) -> None:
    service = PredictorService(predictors["likelihood"], "reviews")
    with running(service) as url:
        for _ in range(3):
            sent(url, {"model": "reviews", "messages": [{"role": "user", "content": REVIEWS[0]}]}).close()
        assert eventually(lambda: service.health() == {"open_answers": 0})
        assert ask(client_of(url), REVIEWS[0]).choices[0].message.content == expected["likelihood"][0].label


@pytest.fixture(scope="module")
def texts(llama_folder: Path) -> Iterator[tuple[openai.OpenAI, list[str]]]:
    """A client of a predictor whose answers are texts, and what the predictor itself answers to the reviews."""
    predictor = LanguageModelPredictor(germinal.load(llama_folder), Prompt("Summarize:", "Summary:"), None, "generate")
    predictor.generation = predictor.generation.override(max_new_tokens=8)
    expected = [answer.text for answer in predictor.predict(REVIEWS)]
    with running(PredictorService(predictor, "reviews")) as url:
        yield client_of(url), expected


def test_texts_come_whole_and_in_pieces(texts: tuple[openai.OpenAI, list[str]]) -> None:
    client, expected = texts
    with ThreadPoolExecutor(16) as pool:
        completions = list(pool.map(lambda review: ask(client, review), REVIEWS))
    assert [completion.choices[0].message.content for completion in completions] == expected
    assert all(completion.choices[0].model_extra["germinal"]["label"] is None for completion in completions)
    assert {completion.choices[0].finish_reason for completion in completions} <= {"stop", "length"}
    cut = [
        completion.usage.completion_tokens
        for completion in completions
        if completion.choices[0].finish_reason == "length"
    ]
    assert cut
    assert set(cut) == {8}
    chunks = list(ask(client, REVIEWS[0], stream=True))
    assert streamed_text(chunks) == expected[0]
    assert sum(bool(chunk.choices and chunk.choices[0].delta.content) for chunk in chunks) > 1
    assert chunks[-1].choices[0].model_extra["germinal"]["error"] is None


def test_a_text_may_be_asked_to_be_shorter_and_no_longer(texts: tuple[openai.OpenAI, list[str]]) -> None:
    client, expected = texts
    short = ask(client, REVIEWS[0], max_tokens=2)
    assert short.usage.completion_tokens <= 2
    assert expected[0].startswith(short.choices[0].message.content)
    assert ask(client, REVIEWS[0], max_completion_tokens=100).choices[0].message.content == expected[0]
    with pytest.raises(openai.BadRequestError, match="'temperature' is not supported"):
        ask(client, REVIEWS[0], temperature=0.7)


def test_white_space_at_the_ends_of_a_text_is_not_sent() -> None:
    from germinal.serving.predictor_service import _Stripped

    text = _Stripped()
    assert [text.push(piece) for piece in (" \n", " two", " ", "words", "\n", "  ")] == [
        "",
        "two",
        "",
        " words",
        "",
        "",
    ]


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> ClassifierPredictor:
    names = {0: "neg", 1: "pos"}
    folder = save_encoder(tmp_path_factory.mktemp("classifier"), "BertForSequenceClassification", id2label=names)
    return ClassifierPredictor(germinal.load(folder))


def test_a_model_with_a_head_is_served_by_its_own_answers(classifier: ClassifierPredictor) -> None:
    expected = classifier.predict(REVIEWS)
    told = {answer.probabilities["pos"] for answer in expected if answer.probabilities}
    assert len(told) > 10  # so that a mistake between rows would be seen
    with running(PredictorService(classifier, "reviews")) as server, ThreadPoolExecutor(16) as pool:
        client = client_of(server)
        completions = list(pool.map(lambda review: ask(client, review), REVIEWS))
        chunks = list(ask(client, REVIEWS[3], stream=True))
        with pytest.raises(openai.BadRequestError, match=r"reads 80"):
            ask(client, "film " * 100)
        with pytest.raises(openai.BadRequestError, match="temperature"):
            ask(client, REVIEWS[0], temperature=0.7)
    for completion, answer, review in zip(completions, expected, REVIEWS, strict=True):
        (choice,) = completion.choices
        said = choice.model_extra["germinal"]
        assert choice.message.content == said["label"] == answer.label
        assert said["probabilities"] == pytest.approx(dict(answer.probabilities or {}), abs=1e-5)
        assert completion.usage.prompt_tokens == len(classifier.lm.tokenizer.encode(review))
        assert completion.usage.completion_tokens == 0
    assert streamed_text(chunks) == expected[3].label


def test_a_served_model_with_a_head_says_what_it_cut(classifier: ClassifierPredictor) -> None:
    cutting = ClassifierPredictor(classifier.lm, ContextWindow(80, "truncate_input"))
    (read,) = cutting.read(["film " * 100])
    with running(PredictorService(cutting, "reviews")) as server:
        completion = ask(client_of(server), "film " * 100)
    said = completion.choices[0].model_extra["germinal"]
    assert said["truncated_tokens"] == read.truncated_tokens == 22
    assert completion.usage.prompt_tokens == len(read.ids) == 80
    assert said["probabilities"] == pytest.approx(dict(classifier.predict([read.text])[0].probabilities or {}))


def test_a_predictor_without_an_engine_takes_no_more_than_it_is_told(classifier: ClassifierPredictor) -> None:
    class Held(ClassifierPredictor):
        """Answers when it may."""

        may = threading.Event()

        def predict(self, inputs: Sequence[str], reporter: Reporter = silent) -> list[Answer]:
            assert self.may.wait(30)
            return super().predict(inputs, reporter)

    service = PredictorService(Held(classifier.lm), "reviews", max_answers=2)
    with running(service) as server, ThreadPoolExecutor(2) as pool:
        client = client_of(server)
        waiting = [pool.submit(ask, client, review) for review in REVIEWS[:2]]
        eventually(lambda: service.health() == {"open_answers": 2})
        with pytest.raises(openai.InternalServerError) as refused:
            ask(client, REVIEWS[2])
        assert refused.value.status_code == 503
        Held.may.set()
        said = [done.result().choices[0].message.content for done in waiting]
        assert said == [answer.label for answer in classifier.predict(REVIEWS[:2])]
        assert ask(client, REVIEWS[2]).choices[0].finish_reason == "stop"
    assert service.health() == {"open_answers": 0}
