"""What `germinal tune` does below the command line, and that a project's steps learn from the same token ids."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from tiny_encoders import TEXTS, save_encoder

import germinal
from germinal.errors import ContextWindowError, SettingError
from germinal.layers.lora_config import LoRAConfig
from germinal.predictors.answers import Labels
from germinal.predictors.language_model_predictor import LanguageModelPredictor
from germinal.text.context_window import ContextWindow
from germinal.text.prompt import Prompt
from germinal.training.classification import class_examples
from germinal.training.config import HEAD_TRAINING, TrainingConfig
from germinal.training.examples import prompted_examples
from germinal.training.run_folder import read_result
from germinal.training.tune import tune

PAIRS = [("a warm film", "good"), ("a cold film", "bad"), ("funny and true", "good"), ("dull", "bad")]
PROMPT = {"instruction": "Classify:", "answer": "Sentiment:"}


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_encoder(tmp_path_factory.mktemp("encoder"), "BertModel")


def test_a_decoder_gets_an_adapter_tuned_with_what_was_given(llama_folder: Path, tmp_path: Path) -> None:
    lm = germinal.load(llama_folder)
    training = {"epochs": 2, "seed": 5}
    tuned = tune(lm, PAIRS, tmp_path / "run", prompt=PROMPT, lora={"rank": 3}, training=training)
    assert (tuned.path, tuned.labels) == (tmp_path / "run" / "adapter", None)
    assert json.loads((tuned.path / "adapter_config.json").read_text())["r"] == 3
    recipe = json.loads((tmp_path / "run" / "run.json").read_text())
    assert (recipe["seed"], recipe["learning_rate"]) == (5, TrainingConfig().learning_rate)
    assert read_result(tmp_path / "run")["steps"] == 2


def test_an_encoder_gets_a_head_with_defaults_of_its_own(encoder: Path, tmp_path: Path) -> None:
    lm = germinal.load(encoder)
    tuned = tune(lm, PAIRS, tmp_path / "run", prompt={}, lora={}, training={"max_steps": 1})
    assert (tuned.path, tuned.labels) == (tmp_path / "run" / "model", ("bad", "good"))
    recipe = json.loads((tmp_path / "run" / "run.json").read_text())
    assert recipe["learning_rate"] == HEAD_TRAINING.learning_rate
    with pytest.raises(SettingError, match="no effect on an encoder") as refused:
        tune(lm, PAIRS, tmp_path / "other", prompt={}, lora={"rank": 8}, training={})
    assert refused.value.where == "rank"
    assert not (tmp_path / "other").exists()


def test_examples_are_the_prompt_as_it_is_asked_and_the_answer_after_it(llama_folder: Path) -> None:
    lm = germinal.load(llama_folder)
    texts = LanguageModelPredictor(lm, Prompt(**PROMPT), None, "generate")
    labels = LanguageModelPredictor(lm, Prompt(**PROMPT), Labels.of(["good", "bad"], {"good": "warm"}))
    asked = [prompt.ids for prompt in texts.prompts_for([input for input, _ in PAIRS])]
    for predictor, answers in ((texts, ["good", "bad"]), (labels, ["warm", "bad"])):
        examples = prompted_examples(predictor, PAIRS)
        assert [example.prompt_ids for example in examples] == asked
        for example, answer in zip(examples, answers, strict=False):
            assert example.answer_ids[-1] == lm.tokenizer.eos_id
            assert lm.tokenizer.decode(example.answer_ids) == f" {answer}"


def test_a_prompt_may_leave_no_room_but_for_its_answer(llama_folder: Path, tmp_path: Path) -> None:
    lm = germinal.load(llama_folder)
    word = next(word for word in ("warm", "film", "a") if len(lm.tokenizer.encode(f"{word} {word}")) == 2)
    window = lm.config.max_position_embeddings
    fitting = [(" ".join([word] * (window - 3)), word)] * 4  # the answer, and the token that ends it
    tune(lm, fitting, tmp_path / "run", prompt={}, lora={}, training={"max_steps": 1, "micro_batch_size": 1})
    with pytest.raises(ContextWindowError):
        tune(lm, [(f"{fitting[0][0]} {word} {word}", word)] * 4, tmp_path / "other", prompt={}, lora={}, training={})


def test_a_window_may_cut_what_an_encoder_reads(encoder: Path) -> None:
    lm = germinal.load(encoder)
    long = [(" ".join(TEXTS) * 20, "good"), ("dull", "bad")]
    with pytest.raises(ContextWindowError, match="input 1 of 2"):
        class_examples(lm, long, ["bad", "good"])
    cut = class_examples(lm, long, ["bad", "good"], ContextWindow(lm.reader.limit, "truncate_input"))
    assert [len(example.input_ids) <= lm.reader.limit for example in cut] == [True, True]
    assert [example.label for example in cut] == [1, 0]
    assert cut[1].input_ids == tuple(lm.reader.tokenize(["dull"])[0].ids)


@pytest.mark.parametrize("config", [LoRAConfig, TrainingConfig, Prompt])
def test_every_setting_says_what_it_is_for(config: type) -> None:
    assert all(field.metadata["help"].endswith(".") for field in dataclasses.fields(config))
