"""Every generation setting changes what comes out where it says that it applies, and is refused where it does not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

import germinal
from germinal import GenerationConfig, LanguageModel
from germinal.errors import SettingError
from germinal.generation.config import generation_rules

PROMPTS = ["I loved this film", "the acting was", "a dull and slow story", "never again"]

EXAMPLES: dict[str, Any] = {
    "max_new_tokens": 3,
    "temperature": 3.0,
    "top_k": 2,
    "top_p": 0.3,
    "min_p": 0.5,
    "repetition_penalty": 3.0,
    "presence_penalty": 2.0,
    "frequency_penalty": 2.0,
    "no_repeat_ngram_size": 1,
    "min_new_tokens": 12,
    "forced_bos_id": 9,
    "forced_eos_id": 2,
    "logit_bias": {11: 100.0},
    "stop": "e",
    "eos_ids": list(range(3, 60)),
    "seed": 4,
    "n": 2,
    "num_beams": 4,
    "length_penalty": -3.0,
    "early_stopping": True,
    "renormalize_logits": True,
    "logprobs": 2,
}
"""A value of each setting that should change something. A new setting gets one here."""

BESIDE: dict[str, dict[str, Any]] = {
    "always": {},
    "sampling": {"temperature": 1.0, "seed": 3},
    "beam search": {"num_beams": 4, "eos_ids": list(range(2, 40))},
    "min_new_tokens": {"eos_ids": list(range(2, 80))},
    "renormalize_logits": {"num_beams": 4, "repetition_penalty": 1.3},
}
"""The settings beside which one is tried: by its name, or else by when it applies."""


@pytest.fixture(scope="module")
def lm(make_llama_folder: Callable[..., Path]) -> LanguageModel:
    return germinal.load(make_llama_folder(initializer_range=0.3))


def outcome(lm: LanguageModel, **settings: Any) -> list[Any]:
    """What a user sees of the answers to some prompts."""
    answers = lm.generate(PROMPTS, **{"max_new_tokens": 12, **settings})
    several = [answer if isinstance(answer, list) else [answer] for answer in answers]
    return [[(each.text, each.token_ids, each.finish_reason, each.logprobs) for each in group] for group in several]


def test_every_setting_has_an_example() -> None:
    assert set(EXAMPLES) == {spec.name for spec in fields(GenerationConfig)}


@pytest.mark.parametrize("name", EXAMPLES)
def test_it_changes_what_comes_out_where_it_applies(lm: LanguageModel, name: str) -> None:
    beside = BESIDE.get(name, BESIDE[generation_rules()[name].applies])
    more = {"seed": 3} if name == "temperature" else {}
    assert outcome(lm, **{**beside, **more, name: EXAMPLES[name]}) != outcome(lm, **beside)


def test_a_setting_without_effect_would_be_noticed(lm: LanguageModel) -> None:
    assert outcome(lm, stop="no such text comes out") == outcome(lm)
    assert outcome(lm, **BESIDE["sampling"], top_k=10**6) == outcome(lm, **BESIDE["sampling"])


@pytest.mark.parametrize("name", EXAMPLES)
def test_it_is_refused_where_it_does_not_apply(name: str) -> None:
    rule = generation_rules()[name]
    if rule.applies == "always":
        GenerationConfig(**{name: EXAMPLES[name]})
        return
    with pytest.raises(SettingError, match="has no effect") as refused:
        GenerationConfig(**{name: EXAMPLES[name]})
    assert refused.value.where == name
    assert getattr(GenerationConfig.lenient(**{name: EXAMPLES[name]}), name) == rule.default
