"""One answer, one end: what is scored, taught and generated in a chat, with a template that is not ChatML."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer

import germinal
from germinal.errors import SettingError, TemplateError
from germinal.generation.config import GenerationConfig
from germinal.predictors.answers import Labels
from germinal.predictors.language_model_predictor import LanguageModelPredictor
from germinal.text.prompt import Example, Prompt
from germinal.training.examples import prompted_examples

TEMPLATE = (
    "{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
    "{% else %}{{ ' ' + m.content + ' ' }}<|endoftext|>{% endif %}{% endfor %}"
)
"""Puts a space before an answer, and closes it with a token that is not the tokenizer's eos."""

CLOSE, EOS = 0, 2
LABELS = Labels({"pos": "Positive", "neg": "Negative"})
CHAT = Prompt("Classify this review:", "Sentiment:", chat=True)
SHOTS = [Example("dull", "Negative")]


def changed(folder: Path, to: Path, template: str | None = TEMPLATE, ends: Any = None, appends: bool = False) -> Path:
    shutil.copytree(folder, to)
    if template is not None:
        (to / "chat_template.jinja").write_text(template)
    if ends is not None:
        (to / "generation_config.json").write_text(json.dumps({"eos_token_id": ends}))
    if appends:
        path = to / "tokenizer.json"
        content = json.loads(path.read_text())
        content["post_processor"] = {
            "type": "TemplateProcessing",
            "single": [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "<|im_end|>", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<|im_end|>": {"id": "<|im_end|>", "ids": [EOS], "tokens": ["<|im_end|>"]}},
        }
        path.write_text(json.dumps(content))
    return to


@pytest.fixture(scope="module")
def folder(llama_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return changed(llama_folder, tmp_path_factory.mktemp("inst") / "model")


@pytest.fixture(scope="module")
def lm(folder: Path) -> Any:
    return germinal.load(str(folder), precision="float32", device="cpu")


def theirs(folder: Path, messages: list[Any], answer: str) -> list[int]:
    peer = AutoTokenizer.from_pretrained(folder)
    without = peer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    whole = peer.apply_chat_template([*messages, {"role": "assistant", "content": answer}], return_dict=False)
    assert whole[: len(without)] == without
    return list(whole[len(without) :])


def test_a_label_is_shown_scored_and_taught_alike(folder: Path, lm: Any) -> None:
    predictor = LanguageModelPredictor(lm, CHAT, LABELS, examples=SHOTS)
    written = {label: theirs(folder, CHAT.messages("warm", SHOTS), word) for label, word in LABELS.words.items()}
    for (fitted,), (label, ids) in zip([predictor.prompts_for(["warm"])] * 2, written.items(), strict=True):
        (example,) = prompted_examples(predictor, [("warm", label)])
        assert list(example.answer_ids) == ids
        assert example.prompt_ids == fitted.ids
        assert ids[-1] == CLOSE
        assert tuple(ids[: len(predictor.continuation_ids[label])]) == predictor.continuation_ids[label]
        assert lm.tokenizer.decode(predictor.continuation_ids[label]) == f" {LABELS.words[label]}"
    shown = predictor.prompts_for(["warm"])[0].ids
    example_ids = predictor.continuation_ids["neg"]
    assert any(shown[place : place + len(example_ids)] == example_ids for place in range(len(shown)))


def test_scores_are_those_of_the_tokens_that_the_template_writes(lm: Any) -> None:
    predictor = LanguageModelPredictor(lm, CHAT, LABELS)
    (fitted,) = predictor.prompts_for(["warm"])
    scores = lm.score(CHAT.messages("warm"), list(LABELS.words.values()))
    for score, ids in zip(scores, predictor.continuation_ids.values(), strict=True):
        logprobs = lm.logits(torch.tensor([[*fitted.ids, *ids]]))[0].log_softmax(-1)
        start = len(fitted.ids) - 1
        assert score == pytest.approx(sum(logprobs[start + at, id].item() for at, id in enumerate(ids)), abs=1e-4)
    assert predictor.answer(next(predictor.outputs(["warm"]))[1]).probabilities is not None


def test_a_chat_ends_where_the_template_closes_and_plain_text_does_not(lm: Any) -> None:
    likely = {"logit_bias": {CLOSE: 100}, "max_new_tokens": 5}
    assert lm.generate(CHAT.messages("warm"), **likely).finish_reason == "stop"
    assert lm.generate("warm", **likely).finish_reason == "length"
    assert lm.writer.ends(chat=True) == (CLOSE, EOS)
    assert lm.writer.ends(chat=False) == (EOS,)
    assert LanguageModelPredictor(lm, CHAT, None, "generate").generation.eos_ids == (CLOSE, EOS)
    assert lm.generate(CHAT.messages("warm"), eos_ids=[5], **likely).finish_reason == "length"


def test_what_is_taught_in_plain_text_is_an_end_that_generation_knows(llama_folder: Path, tmp_path: Path) -> None:
    lm = germinal.load(str(changed(llama_folder, tmp_path / "a", ends=[7, 9])), precision="float32", device="cpu")
    predictor = LanguageModelPredictor(lm, Prompt(answer="Sentiment:"), LABELS)
    (example,) = prompted_examples(predictor, [("warm", "pos")])
    assert example.answer_ids[-1] == 7
    assert predictor.generation.eos_ids == (7, 9)

    endless = germinal.load(str(changed(llama_folder, tmp_path / "b", ends=-1)), precision="float32", device="cpu")
    predictor = LanguageModelPredictor(endless, Prompt(answer="Sentiment:"), LABELS)
    with pytest.raises(SettingError, match=r"ends with '<\|im_end\|>', token 2, but generation does not stop"):
        prompted_examples(predictor, [("warm", "pos")])


def test_settings_that_go_past_the_taught_end_are_refused(lm: Any) -> None:
    generation = GenerationConfig(max_new_tokens=4, eos_ids=[EOS])
    predictor = LanguageModelPredictor(lm, CHAT, LABELS, generation=generation)
    with pytest.raises(SettingError, match="endoftext"):
        prompted_examples(predictor, [("warm", "pos")])


def test_no_end_stands_before_an_answer_nor_after_a_label(llama_folder: Path, tmp_path: Path) -> None:
    plain = germinal.load(str(llama_folder), precision="float32", device="cpu")
    folder = changed(llama_folder, tmp_path / "model", template=None, appends=True)
    appending = germinal.load(str(folder), precision="float32", device="cpu")
    assert appending.tokenizer.encode("warm")[-1] == EOS
    prompt = Prompt("Classify this review:", "Sentiment:")
    for lm in (plain, appending):
        assert lm.encode_prompt("warm") == plain.encode_prompt("warm")
        predictor, right = (LanguageModelPredictor(each, prompt, LABELS) for each in (lm, plain))
        assert predictor.prompts_for(["warm"]) == right.prompts_for(["warm"])
        assert predictor.continuation_ids == right.continuation_ids
        assert prompted_examples(predictor, [("a", "pos")]) == prompted_examples(right, [("a", "pos")])
        assert lm.score("warm", [" Positive"]) == pytest.approx(plain.score("warm", [" Positive"]))
        assert lm.generate("warm", max_new_tokens=4).token_ids == plain.generate("warm", max_new_tokens=4).token_ids


def test_a_template_that_asks_for_thoughts_is_refused_for_labels(llama_folder: Path, tmp_path: Path) -> None:
    template = "{% for m in messages %}{{ m.content }}|{% endfor %}{% if add_generation_prompt %}<think>{% endif %}"
    lm = germinal.load(str(changed(llama_folder, tmp_path / "model", template)), precision="float32", device="cpu")
    with pytest.raises(TemplateError, match=r"asks with .*<think>"):
        LanguageModelPredictor(lm, CHAT, LABELS)
    assert lm.generate(CHAT.messages("warm"), max_new_tokens=2).token_ids
