"""Requests on an engine: their texts grow as their tokens do, whoever steps, and whoever leaves frees the engine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import germinal
from germinal.errors import ContextWindowError, SettingError, UnsupportedError
from germinal.generation.config import GenerationConfig
from germinal.language_model import LanguageModel
from germinal.writing.driver import Driver
from germinal.writing.pending import Pending
from germinal.writing.request import Request

PROMPTS = ["I loved this movie!", "The plot was dull", "A film that is warm", "so"]
SAMPLED = GenerationConfig(max_new_tokens=9, temperature=1.2, seed=3, logprobs=1)


@pytest.fixture(scope="module")
def lm(make_llama_folder: Callable[..., Path]) -> LanguageModel:
    return germinal.load(make_llama_folder(max_position_embeddings=64))


def test_pieces_together_are_the_answer(lm: LanguageModel) -> None:
    ids = lm.encode_prompt(PROMPTS[0])
    pending = lm.writer.pending(Request(ids, SAMPLED, answers=3))
    driver = Driver(lm.writer.make_engine(num_slots=2))
    driver.add(pending)
    pieces = []
    while driver.has_work:
        for changed in driver.step():
            assert changed is pending
            pieces += changed.take()
    assert pending.finished
    assert pending.take() == []
    completions = pending.response().completions
    expected = lm.generate(PROMPTS[0], **{**SAMPLED.to_dict(), "n": 3})
    assert [each.token_ids for each in completions] == [each.token_ids for each in expected]
    assert [each.text for each in completions] == [each.text for each in expected]
    assert len({completion.text for completion in completions}) == 3
    for index, completion in enumerate(completions):
        own = [piece for piece in pieces if piece.index == index]
        assert "".join(piece.text for piece in own) == completion.text
        assert [token.id for piece in own for token in piece.tokens] == list(completion.token_ids)
        assert [piece.finish_reason for piece in own] == [None] * (len(own) - 1) + [completion.finish_reason]
        assert len(own) > 5


def test_loops_may_take_turns(lm: LanguageModel) -> None:
    """A stream that scores and asks between its pieces gives the same, and so do two streams side by side."""
    alone = [list(lm.stream(prompt, max_new_tokens=12)) for prompt in PROMPTS]
    scores = lm.score(PROMPTS[2], [" warm", " dull"])
    answer = lm.generate(PROMPTS[3], max_new_tokens=6).text
    first, second = (lm.stream(prompt, max_new_tokens=12) for prompt in PROMPTS[:2])
    texts = ["", ""]
    for piece in first:
        texts[0] += piece
        texts[1] += next(second, "")
        assert lm.score(PROMPTS[2], [" warm", " dull"]) == pytest.approx(scores, abs=1e-4)
        assert lm.generate(PROMPTS[3], max_new_tokens=6).text == answer
    texts[1] += "".join(second)
    assert texts == ["".join(pieces) for pieces in alone[:2]]
    assert not lm.writer.driver.has_work


def test_who_stops_early_frees_the_engine(lm: LanguageModel) -> None:
    stream = lm.stream(PROMPTS[0], max_new_tokens=30)
    next(stream)
    assert lm.writer.driver.has_work
    stream.close()
    assert not lm.writer.driver.has_work
    requests = [
        Request(lm.encode_prompt(prompt), GenerationConfig(max_new_tokens=length))
        for prompt, length in zip(PROMPTS, (2, 20, 20, 20), strict=True)
    ]
    responses = lm.respond(requests)
    number, response = next(responses)
    assert number == 0
    assert response.completion is not None
    responses.close()  # type: ignore[attr-defined]
    assert not lm.writer.driver.has_work


def test_cancelling_ends_one_request_alone(lm: LanguageModel) -> None:
    driver = Driver(lm.writer.make_engine())
    config = GenerationConfig(max_new_tokens=10, eos_ids=())
    stays, leaves = (lm.writer.pending(Request(lm.encode_prompt(prompt), config, answers=2)) for prompt in PROMPTS[:2])
    driver.add(stays)
    driver.add(leaves)
    driver.step()
    driver.cancel(leaves)
    driver.cancel(leaves)
    assert {sequence.finish_reason for sequence in leaves.sequences} == {"cancelled"}
    brought: set[Pending] = set()
    while driver.has_work:
        brought |= set(driver.step())
    assert brought == {stays}
    assert [completion.finish_reason for completion in stays.response().completions] == ["length", "length"]


def test_a_request_that_does_not_fit_takes_none_of_its_company_along(lm: LanguageModel) -> None:
    requests = [Request(lm.encode_prompt(text), SAMPLED) for text in (PROMPTS[0], "so " * 100, PROMPTS[1])]
    with pytest.raises(ContextWindowError, match="64"):
        list(lm.respond(requests))
    assert not lm.writer.driver.has_work
    assert lm.generate(PROMPTS[0], max_new_tokens=3).usage.completion_tokens == 3


def test_a_stop_text_ends_its_answer_and_no_other(lm: LanguageModel) -> None:
    whole = lm.generate(PROMPTS, max_new_tokens=12)
    stop = whole[0].text[4:6]
    assert stop
    cut = lm.generate(PROMPTS, max_new_tokens=12, stop=stop)
    for before, after in zip(whole, cut, strict=True):
        assert after.text == before.text.partition(stop)[0]
        assert after.finish_reason == ("stop" if stop in before.text else before.finish_reason)


def test_answers_and_scores_come_from_one_pass_over_the_prompt(lm: LanguageModel) -> None:
    ids = lm.encode_prompt(PROMPTS[2])
    continuations = tuple(tuple(lm.tokenizer.encode(text, add_special_tokens=False)) for text in (" warm", " dull"))
    ((_, both),) = lm.respond([Request(ids, SAMPLED, continuations, answers=2)])
    ((_, answers),) = lm.respond([Request(ids, SAMPLED, answers=2)])
    ((_, scores),) = lm.respond([Request(ids, None, continuations)])
    assert [each.text for each in both.completions] == [each.text for each in answers.completions]
    assert both.scores == pytest.approx(scores.scores, abs=1e-4)
    assert scores.completion is None
    generated = sum(len(each.token_ids) for each in both.completions)
    assert both.computed_tokens < len(ids) + generated + sum(map(len, continuations))
    with pytest.raises(SettingError, match="asks for nothing"):
        list(lm.respond([Request(ids)]))


def test_a_model_that_cannot_write_says_so_when_it_is_asked(tmp_path: Path) -> None:
    from tiny_encoders import save_encoder

    lm = germinal.load(save_encoder(tmp_path, "BertForMaskedLM"))
    for ask in (lambda: lm.generate("A film"), lambda: lm.score("A film", [" good"]), lm.writer.make_engine):
        with pytest.raises(UnsupportedError, match="cannot generate or score texts"):
            ask()
