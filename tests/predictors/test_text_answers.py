"""Predictors whose answers are texts, and encoder-decoders as predictors of texts and of labels."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pytest
import torch
from generative_models import random_model
from tiny_models import small_tokenizer

import germinal
from germinal.data.readers import Record, Table
from germinal.errors import ContextWindowError, SettingError
from germinal.language_model import LanguageModel
from germinal.predictors.answer_file import render_answers
from germinal.predictors.answers import Answer, Labels, Output, decide
from germinal.predictors.language_model_predictor import TEXT_TOKENS, LanguageModelPredictor
from germinal.predictors.loading import load_predictor
from germinal.text.context_window import ContextWindow
from germinal.text.prompt import Example, Prompt

PROMPT = Prompt("Summarize this review:", "Summary:")
SHOTS = [Example("I loved this movie!", "Loved it"), Example("The plot was dull.", "Dull plot")]
REVIEWS = ["A film that is warm, funny and true.", "The acting was worse.", "Nobody should miss it."]
LABELS = Labels({"pos": "Positive", "neg": "Negative"})


@pytest.fixture(scope="module")
def lm(llama_folder: Path) -> LanguageModel:
    return germinal.load(llama_folder)


@pytest.fixture(scope="module", params=["t5", "bart"])
def two_stacks(request: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, LanguageModel]:
    """The same random encoder-decoder, transformers' and ours."""
    folder = tmp_path_factory.mktemp(request.param)
    tokenizer = small_tokenizer()
    model = random_model(request.param, vocab_size=len(tokenizer))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model, germinal.load(folder)


def test_a_text_is_what_the_model_writes_up_to_the_next_block(lm: LanguageModel) -> None:
    predictor = LanguageModelPredictor(lm, PROMPT, None, "generate", examples=SHOTS)
    assert predictor.generation.stop == ("\n\n",)
    assert predictor.generation.max_new_tokens == TEXT_TOKENS
    predictor.generation = predictor.generation.override(max_new_tokens=9)
    prompts = [PROMPT.text(review, SHOTS) for review in REVIEWS]
    expected = lm.generate(prompts, max_new_tokens=9, stop=["\n\n"])
    outputs = dict(predictor.outputs(REVIEWS))
    assert [outputs[place].text for place in range(3)] == [completion.text for completion in expected]
    assert [outputs[place].finish_reason for place in range(3)] == [each.finish_reason for each in expected]
    answers = predictor.predict(REVIEWS)
    assert answers == [Answer(None, completion.text.strip()) for completion in expected]
    assert [answer.said for answer in answers] == [completion.text.strip() for completion in expected]


def test_what_ends_a_text(lm: LanguageModel, two_stacks: tuple[Any, LanguageModel]) -> None:
    encoder_decoder = two_stacks[1]
    for model, prompt, labels, ending in (
        (lm, PROMPT, None, "\n\n"),
        (lm, Prompt("Say:", separator="\n---\n"), None, "\n---\n"),
        (lm, Prompt("Say:", chat=True), None, None),
        (lm, PROMPT, LABELS, None),
        (encoder_decoder, PROMPT, None, None),
    ):
        predictor = LanguageModelPredictor(model, prompt, labels, "generate")
        assert predictor.ending == ending
        assert predictor.generation.stop == (() if ending is None else (ending,))


def test_texts_have_no_labels_to_score(lm: LanguageModel) -> None:
    with pytest.raises(SettingError, match="needs labels"):
        LanguageModelPredictor(lm, PROMPT, None, "likelihood")
    assert LanguageModelPredictor(lm, PROMPT, None, "generate").continuation_ids == {}


def test_a_failed_text_says_nothing() -> None:
    answer = decide("generate", Output(text="half a", error="it broke"), None)
    assert (answer.said, answer.error) == (None, "it broke")
    assert decide("generate", Output(text="  \n"), None).said == ""


def test_answers_of_texts_in_files() -> None:
    table = Table(Path("in.csv"), ("text",), (Record({"text": "a"}, "in.csv:2"), Record({"text": "b"}, "in.csv:3")))
    answers = [Answer(None, 'said, "so"'), Answer(None, "", error="it broke")]
    rows = list(csv.DictReader(io.StringIO(render_answers(table, answers, ".csv"))))
    assert [row["predicted"] for row in rows] == ['said, "so"', ""]
    assert set(rows[0]) == {"text", "predicted", "error"}
    assert '"predicted": null' in render_answers(table, answers, ".jsonl").splitlines()[1]


def test_a_folder_keeps_a_predictor_of_texts(lm: LanguageModel, tmp_path: Path) -> None:
    predictor = LanguageModelPredictor(lm, PROMPT, None, "generate", examples=SHOTS)
    predictor.generation = predictor.generation.override(max_new_tokens=7)
    predictor.save(tmp_path / "saved")
    loaded = load_predictor(tmp_path / "saved", lm)
    assert isinstance(loaded, LanguageModelPredictor)
    assert (loaded.labels, loaded.rule, loaded.generation) == (None, "generate", predictor.generation)
    assert loaded.predict(REVIEWS) == predictor.predict(REVIEWS)


def test_continuation_of_a_text_is_the_joint_encoding(lm: LanguageModel) -> None:
    predictor = LanguageModelPredictor(lm, PROMPT, None, "generate")
    (fitted,) = predictor.prompts_for(REVIEWS[:1])
    ids = predictor.continuation(fitted, "Warm and true")
    assert fitted.ids + ids == tuple(lm.tokenizer.encode(fitted.text + " Warm and true"))


# Encoder-decoders


def theirs(model: Any, lm: LanguageModel, prompt: str, length: int) -> str:
    ids = torch.tensor([lm.tokenizer.encode(prompt)])
    with torch.no_grad():
        output = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=length)
    answer = output[0, 1:].tolist()
    return lm.tokenizer.decode(answer[: answer.index(2)] if 2 in answer else answer).strip()


def test_texts_of_an_encoder_decoder_are_transformers(two_stacks: tuple[Any, LanguageModel]) -> None:
    model, lm = two_stacks
    predictor = LanguageModelPredictor(lm, PROMPT, None, "generate", examples=SHOTS)
    predictor.generation = predictor.generation.override(max_new_tokens=8)
    expected = [theirs(model, lm, PROMPT.text(review, SHOTS), 8) for review in REVIEWS]
    assert [answer.said for answer in predictor.predict(REVIEWS)] == expected


def test_labels_of_an_encoder_decoder_are_scored_as_whole_answers(two_stacks: tuple[Any, LanguageModel]) -> None:
    model, lm = two_stacks
    predictor = LanguageModelPredictor(lm, PROMPT, LABELS)
    words = [lm.tokenizer.encode(word, add_special_tokens=False) for word in ("Positive", "Negative")]
    assert list(predictor.continuation_ids.values()) == [tuple(ids) for ids in words]
    (_, output), *_ = predictor.outputs(REVIEWS[:1])
    assert output.label_logprobs is not None
    source = torch.tensor([lm.tokenizer.encode(PROMPT.text(REVIEWS[0]))])
    for label, ids in zip(("pos", "neg"), words, strict=True):
        start = model.config.decoder_start_token_id
        with torch.no_grad():
            logits = model(input_ids=source, decoder_input_ids=torch.tensor([[start, *ids[:-1]]])).logits
        expected = logits[0].log_softmax(-1)[range(len(ids)), ids].sum().item()
        assert output.label_logprobs[label] == pytest.approx(expected, abs=1e-3)


def test_the_encoders_window_holds_no_answer(two_stacks: tuple[Any, LanguageModel]) -> None:
    lm = two_stacks[1]
    tokens = len(lm.tokenizer.encode(PROMPT.text(REVIEWS[0])))
    fits = ContextWindow(tokens, two_stacks=True)
    predictor = LanguageModelPredictor(lm, PROMPT, LABELS, "likelihood", window=fits)
    assert len(predictor.prompts_for(REVIEWS[:1])[0].ids) == tokens
    small = ContextWindow(tokens - 1, two_stacks=True)
    with pytest.raises(ContextWindowError):
        LanguageModelPredictor(lm, PROMPT, LABELS, "likelihood", window=small).prompts_for(REVIEWS[:1])
