"""SmolLM2 itself behind OpenAI's client: a sensible answer, the same under load, and a served classifier's labels."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from servers import client_of, running, streamed_text

import germinal
from germinal.language_model import LanguageModel
from germinal.predictors.answers import Labels
from germinal.predictors.language_model_predictor import LanguageModelPredictor
from germinal.serving import ModelService, PredictorService
from germinal.text.prompt import Example, Prompt

QUESTIONS = ["What is the capital of France?", "Name a colour.", "Count to five.", "What is the opposite of hot?"]
SHOTS = [
    Example("The plot was dull and the acting was worse.", "Negative"),
    Example("I loved this movie!", "Positive"),
]
REVIEWS = ["A warm, funny and wonderful film.", "A boring mess. I hated it.", "Brilliant acting.", "An awful script."]


@pytest.fixture(scope="module")
def lm(smollm2: str) -> LanguageModel:
    return germinal.load(smollm2)


def test_it_chats(lm: LanguageModel) -> None:
    def ask(question: str, stream: bool = False) -> Any:
        return client.chat.completions.create(
            model=lm.card.name,
            messages=[{"role": "user", "content": question}],
            temperature=0,
            max_tokens=12,
            stream=stream,
        )

    with running(ModelService(lm)) as url:
        client = client_of(url)
        alone = [ask(question).choices[0].message.content for question in QUESTIONS]
        with ThreadPoolExecutor(8) as pool:
            wholes = list(pool.map(ask, QUESTIONS))
            streams = list(pool.map(lambda question: streamed_text(ask(question, stream=True)), QUESTIONS))
    assert "Paris" in alone[0]
    assert [completion.choices[0].message.content for completion in wholes] == alone == streams


@pytest.mark.parametrize("rule", ["generate", "likelihood"])
def test_it_classifies(lm: LanguageModel, rule: Any) -> None:
    labels = Labels({"pos": "Positive", "neg": "Negative"})
    prompt = Prompt("Classify this review:", "Sentiment:")
    predictor = LanguageModelPredictor(lm, prompt, labels, rule, examples=SHOTS)
    expected = predictor.predict(REVIEWS)
    with running(PredictorService(predictor, "reviews")) as url, ThreadPoolExecutor(4) as pool:
        client = client_of(url)
        completions = list(
            pool.map(
                lambda review: client.chat.completions.create(
                    model="reviews", messages=[{"role": "user", "content": review}]
                ),
                REVIEWS,
            )
        )
    said = [completion.choices[0].model_extra["germinal"]["label"] for completion in completions]
    assert said == [answer.label for answer in expected] == ["pos", "neg", "pos", "neg"]
    assert said == [completion.choices[0].message.content for completion in completions]
