"""`germinal.load` of folders with an encoder-decoder: the same calls as for a decoder, the answers of transformers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from generative_models import random_model
from tiny_models import small_tokenizer
from transformers import AutoModelForSeq2SeqLM

import germinal
from germinal.errors import CheckpointError, ContextWindowError
from germinal.generation.config import GenerationConfig
from germinal.language_model import LanguageModel
from germinal.writing.request import Request

PROMPTS = ["I loved this movie!", "The plot was dull", "A film that is warm, funny and true."]
EOS = 2
Make = Callable[..., tuple[Any, LanguageModel]]


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """`make(family, **generation_config)`: the same random model, theirs and ours, as saved by transformers."""

    def made(family: str, **generation: Any) -> tuple[Any, LanguageModel]:
        folder = tmp_path_factory.mktemp(family)
        tokenizer = small_tokenizer()
        model = random_model(family, vocab_size=len(tokenizer))
        for name, value in generation.items():
            setattr(model.generation_config, name, value)
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return model, germinal.load(folder)

    return made


def theirs(model: Any, lm: LanguageModel, prompt: str, **settings: Any) -> str:
    ids = torch.tensor([lm.tokenizer.encode(prompt)])
    output = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, **settings)
    answer = output[0, 1:].tolist()
    return lm.tokenizer.decode(answer[: answer.index(EOS)] if EOS in answer else answer)


@pytest.mark.parametrize("family", ["t5", "bart", "marian"])
def test_texts_are_transformers(make: Make, family: str) -> None:
    model, lm = make(family)
    for settings in ({}, {"num_beams": 3}):
        expected = [theirs(model, lm, prompt, max_new_tokens=12, **settings) for prompt in PROMPTS]
        completions = lm.generate(PROMPTS, max_new_tokens=12, **settings)
        assert [completion.text for completion in completions] == expected
        assert "".join(lm.stream(PROMPTS[0], max_new_tokens=12, **settings)) == expected[0]
        source = lm.encode_prompt(PROMPTS[1])
        assert completions[1].usage.prompt_tokens == len(source)
    assert lm.generate(PROMPTS[0], max_new_tokens=3).usage.cached_tokens == len(lm.encode_prompt(PROMPTS[0]))


def test_the_checkpoints_own_settings_are_kept(make: Make) -> None:
    own = {"num_beams": 3, "early_stopping": True, "length_penalty": 2.0, "max_length": 9, "forced_eos_token_id": EOS}
    model, lm = make("bart", **own, forced_bos_token_id=7, no_repeat_ngram_size=2)
    assert [lm.generate(prompt).text for prompt in PROMPTS] == [theirs(model, lm, prompt) for prompt in PROMPTS]
    request = Request(lm.encode_prompt(PROMPTS[0]), GenerationConfig(max_new_tokens=5, eos_ids=(EOS,)))
    ((_, response),) = lm.respond([request])
    assert response.completion is not None
    assert response.completion.token_ids[0] == 7, "forced tokens are the model's, whoever asks"


def test_scores_are_log_probabilities_after_what_every_answer_begins_with(make: Make) -> None:
    model, lm = make("bart", forced_bos_token_id=7)
    source = lm.encode_prompt(PROMPTS[0])
    scores = lm.score(PROMPTS[0], [" Positive", " Negative"])
    for text, score in zip((" Positive", " Negative"), scores, strict=True):
        target = lm.tokenizer.encode(text, add_special_tokens=False)
        start = [model.config.decoder_start_token_id, 7]
        with torch.no_grad():
            logits = model(torch.tensor([source]), decoder_input_ids=torch.tensor([[*start, *target[:-1]]])).logits
        logprobs = logits[0].log_softmax(-1)[1:]
        assert score == pytest.approx(
            sum(logprobs[place, token].item() for place, token in enumerate(target)), abs=1e-3
        )
    continuations = tuple(tuple(lm.tokenizer.encode(text, add_special_tokens=False)) for text in (" Positive", " A"))
    request = Request(source, GenerationConfig(max_new_tokens=4, num_beams=2), continuations)
    ((_, response),) = lm.respond([request])
    assert response.scores[0] == pytest.approx(scores[0], abs=1e-3)
    assert response.prompt_tokens == len(source)


def test_a_saved_folder_writes_the_same_beams_in_transformers(make: Make, tmp_path: Path) -> None:
    _, lm = make("t5")
    again = AutoModelForSeq2SeqLM.from_pretrained(lm.save(tmp_path / "saved"))
    for prompt in PROMPTS:
        expected = theirs(again, lm, prompt, max_new_tokens=12, num_beams=4)
        assert lm.generate(prompt, max_new_tokens=12, num_beams=4).text == expected


def test_a_stop_text_cuts_the_answer_of_a_search(make: Make) -> None:
    _, lm = make("t5")
    whole = lm.generate(PROMPTS[0], max_new_tokens=12, num_beams=3).text
    stop = whole[len(whole) // 2 :][:2]
    cut = lm.generate(PROMPTS[0], max_new_tokens=12, num_beams=3, stop=stop)
    assert (cut.text, cut.finish_reason) == (whole[: whole.index(stop)], "stop")


def test_what_cannot_be_is_refused(make: Make) -> None:
    _, lm = make("bart")
    with pytest.raises(ContextWindowError, match="encoder's window of 128"):
        lm.generate("so " * 300)
    _, lm = make("t5", decoder_start_token_id=None, bos_token_id=None)
    folder = Path(lm.reference or "")
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**settings, "decoder_start_token_id": None, "bos_token_id": None}))
    lm = germinal.load(folder)
    with pytest.raises(CheckpointError, match="no token that the decoder starts with"):
        lm.generate("so")


def test_config_json_says_what_the_decoder_starts_with_where_nothing_else_does(make: Make, tmp_path: Path) -> None:
    model, lm = make("t5")
    folder = Path(lm.reference or "")
    expected = lm.generate(PROMPTS[0], max_new_tokens=8).text
    settings = json.loads((folder / "generation_config.json").read_text())
    del settings["decoder_start_token_id"]
    (folder / "generation_config.json").write_text(json.dumps({**settings, "bos_token_id": 7}))
    again = germinal.load(folder)
    assert again.decoder_start_id == model.config.decoder_start_token_id != 7
    assert again.generate(PROMPTS[0], max_new_tokens=8).text == expected
    saved = json.loads((again.save(tmp_path / "saved") / "generation_config.json").read_text())
    assert saved["decoder_start_token_id"] == again.decoder_start_id
