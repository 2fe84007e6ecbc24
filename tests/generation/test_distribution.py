"""The next-token distribution step by step, against transformers' own warpers and against what generation samples."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import pytest
import torch
from transformers import (
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

import germinal
from germinal.errors import SettingError
from germinal.generation.config import GenerationConfig
from germinal.generation.distribution import next_token_distribution

LOGITS = torch.randn(200, generator=torch.Generator().manual_seed(0)) * 3


def test_each_step_is_transformers_own() -> None:
    config = GenerationConfig(temperature=0.7, top_k=30, top_p=0.8, min_p=0.05, repetition_penalty=1.3)
    prompt = [3, 5, 5, 199]
    found = next_token_distribution(LOGITS, config, prompt)
    steps = [
        RepetitionPenaltyLogitsProcessor(1.3),
        TemperatureLogitsWarper(0.7),
        TopKLogitsWarper(30),
        TopPLogitsWarper(0.8),
        MinPLogitsWarper(0.05),
    ]
    names = ["model", "repetition_penalty", "temperature", "top_k", "top_p", "min_p"]
    assert [stage.name for stage in found.stages] == names
    expected = LOGITS[None]
    torch.testing.assert_close(found.stages[0].probabilities, expected.softmax(-1)[0])
    for stage, step in zip(found.stages[1:], steps, strict=True):
        before = expected.softmax(-1)[0]
        expected = step(torch.tensor([prompt]), expected)
        torch.testing.assert_close(stage.probabilities, expected.softmax(-1)[0])
        gone = (before > 0) & (expected.softmax(-1)[0] == 0)
        assert set(stage.cut) == set(gone.nonzero()[:, 0].tolist())
        assert stage.cut_mass == pytest.approx(float(before[gone].sum()), abs=1e-6)
        assert [float(before[id]) for id in stage.cut] == sorted((float(before[id]) for id in stage.cut), reverse=True)
        assert stage.left == int((expected[0] > -torch.inf).sum())


def test_greedy_leaves_the_models_own() -> None:
    found = next_token_distribution(LOGITS, GenerationConfig())
    assert [stage.name for stage in found.stages] == ["model"]
    assert found.top(1)[0][0] == int(LOGITS.argmax())
    assert found.steps == ("greedy: the likeliest token",)


def test_entropy_is_in_bits() -> None:
    assert next_token_distribution(torch.zeros(64), GenerationConfig()).stages[0].entropy == pytest.approx(6)
    sure = next_token_distribution(torch.tensor([0.0, 200.0]), GenerationConfig())
    assert sure.stages[0].entropy == pytest.approx(0, abs=1e-6)


def test_top_leaves_out_what_was_cut() -> None:
    found = next_token_distribution(LOGITS, GenerationConfig(temperature=1.0, top_k=3))
    top = found.top(50)
    assert len(top) == 3
    assert sum(probability for _, probability in top) == pytest.approx(1)


def test_a_model_samples_from_it(llama_folder: Path) -> None:
    lm = germinal.load(llama_folder)
    settings = {"temperature": 0.9, "top_k": 6, "top_p": 0.9}
    found = lm.next_token_distribution("A film that is", **settings)
    greedy = lm.generate("A film that is", max_new_tokens=1, logprobs=3)
    assert greedy.logprobs is not None
    for id, logprob in greedy.logprobs[0].top_logprobs:
        assert math.log(float(found.stages[0].probabilities[id])) == pytest.approx(logprob, abs=1e-4)
    draws = 800
    answers = lm.generate("A film that is", max_new_tokens=1, seed=1, n=draws, eos_ids=[], logprobs=0, **settings)
    counts = Counter(answer.logprobs[0].id for answer in answers)
    assert set(counts) <= {id for id, _ in found.top(100)}
    for id, probability in found.top(100):
        assert counts[id] / draws == pytest.approx(probability, abs=4 * math.sqrt(0.25 / draws))


def test_a_setting_without_effect_is_refused(llama_folder: Path) -> None:
    lm = germinal.load(llama_folder)
    with pytest.raises(SettingError, match="no effect"):
        lm.next_token_distribution("A film", top_p=0.9)
    with pytest.raises(SettingError, match="one stack"):
        lm.next_token_distribution("A film", target="that")
