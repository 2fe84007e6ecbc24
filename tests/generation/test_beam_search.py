"""Beam search against transformers' for every kind of generative family, alone and in batches."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from generative_models import (
    CONFIGS,
    EOS,
    network_of,
    our_answers,
    our_sequence,
    prompts,
    random_model,
    run,
    their_answers,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from germinal.errors import SettingError
from germinal.generation.backends.torch_backend import TorchBackend
from germinal.generation.config import GenerationConfig
from germinal.generation.engine import Engine
from germinal.generation.sequence import Sequence
from germinal.models.transformer import Transformer

SEARCHES: list[dict[str, Any]] = [
    {"num_beams": 4},
    {"num_beams": 3, "early_stopping": True},
    {"num_beams": 2, "length_penalty": 2.0, "early_stopping": "never"},
    {"num_beams": 5, "length_penalty": -1.0},
    {"num_beams": 4, "length_penalty": 0.0, "early_stopping": "never"},
]


def config(**search: Any) -> GenerationConfig:
    return GenerationConfig(**{"max_new_tokens": 10, "eos_ids": (EOS, 7, 8), **search})


def expected(family: str, model: Any, many: list[list[int]], **search: Any) -> list[list[int]]:
    return their_answers(family, model, many, max_new_tokens=10, eos_token_id=[EOS, 7, 8], **search)


@pytest.mark.parametrize("family", CONFIGS)
def test_answers_are_transformers(family: str) -> None:
    model = random_model(family)
    network = network_of(model)
    many = prompts(3)
    theirs = [expected(family, model, many, **search) for search in SEARCHES]
    for search, answers in zip(SEARCHES, theirs, strict=True):
        assert our_answers(family, network, many, [config(**search)] * 3) == answers, search
    # All at once, with few slots and small steps: searches wait for slots, and do not affect each other.
    mixed = [config(**search) for search in SEARCHES for _ in many]
    together = our_answers(family, network, many * len(SEARCHES), mixed, num_slots=9, max_step_tokens=7)
    assert together == [answer for answers in theirs for answer in answers]
    greedy = our_answers(family, network, many, [config()] * 3)
    assert [answer for answers in theirs for answer in answers] != greedy * len(SEARCHES), "a search must find more"


def test_answers_end_in_both_ways() -> None:
    model = random_model("llama")
    network = network_of(model)
    many = prompts(12, seed=1)
    sequences = [our_sequence("llama", prompt, config(num_beams=4)) for prompt in many]
    assert run(Engine(TorchBackend(network)), sequences) == expected("llama", model, many, num_beams=4)
    reasons = {sequence.finish_reason for sequence in sequences}
    assert reasons == {"stop", "length"}
    assert all((sequence.finish_reason == "length") == (len(sequence.token_ids) == 10) for sequence in sequences)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({"repetition_penalty": 1.7}, {"repetition_penalty": 1.7}),
        ({"no_repeat_ngram_size": 2}, {"no_repeat_ngram_size": 2}),
        ({"min_new_tokens": 6}, {"min_new_tokens": 6}),
        ({"logit_bias": {5: -100.0}}, {"bad_words_ids": [[5]]}),
        ({"forced_bos_id": 9, "forced_eos_id": EOS}, {"forced_bos_token_id": 9, "forced_eos_token_id": EOS}),
    ],
    ids=lambda value: next(iter(value)),
)
def test_processors_act_on_every_beam(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    model = random_model("bart", seed=4)
    many = prompts(4, seed=6)
    for search in ({"num_beams": 4}, {"num_beams": 3, "early_stopping": True, "renormalize_logits": True}):
        answers = expected("bart", model, many, **search, **theirs)
        assert our_answers("bart", network_of(model), many, [config(**search, **ours)] * 4) == answers


@pytest.fixture(scope="module")
def network() -> Transformer:
    return network_of(random_model("mistral"))


@settings(max_examples=15, deadline=None)
@given(
    beams=st.lists(st.integers(1, 5), min_size=2, max_size=6),
    slots=st.integers(5, 12),
    step=st.integers(1, 40),
    seed=st.integers(0, 10**6),
)
def test_tokens_do_not_depend_on_other_sequences(
    network: Transformer, beams: list[int], slots: int, step: int, seed: int
) -> None:
    many = prompts(len(beams), seed)
    configs = [config(num_beams=count) for count in beams]
    alone = [our_answers("mistral", network, [prompt], [each])[0] for prompt, each in zip(many, configs, strict=True)]
    assert our_answers("mistral", network, many, configs, num_slots=slots, max_step_tokens=step) == alone


def test_a_search_leads_continuations_to_score_and_counts_what_it_computed(network: Transformer) -> None:
    (prompt,) = prompts(1, seed=9)
    forks = [Sequence(prompt, target_ids=[5, 6]), Sequence(prompt, target_ids=[8])]
    lead = Sequence(prompt, config(num_beams=3, eos_ids=()), forks=forks)
    alone = Sequence(prompt, target_ids=[5, 6])
    run(Engine(TorchBackend(network, num_slots=3)), [lead, alone])
    assert forks[0].target_logprobs == pytest.approx(alone.target_logprobs, abs=1e-5)
    assert len(lead.token_ids) == 10
    # The prompt once, then three beams for each token but the first, which the prompt's logits give, and the last.
    assert lead.computed_tokens == len(prompt) + 3 * 9


def test_cancelling_a_search_frees_all_its_slots(network: Transformer) -> None:
    engine = Engine(TorchBackend(network, num_slots=4))
    search = Sequence([5, 6, 7], GenerationConfig(max_new_tokens=90, num_beams=4))
    waiting = Sequence([8, 9], config(num_beams=4))
    engine.add(search)
    engine.add(waiting)
    for _ in range(3):
        engine.step()
    engine.cancel(search)
    assert search.finish_reason == "cancelled"
    while engine.has_work:
        engine.step()
    assert waiting.token_ids == our_answers("mistral", network, [[8, 9]], [config(num_beams=4)])[0]


def test_the_window_ends_a_search(network: Transformer) -> None:
    sequence = Sequence([5] * 120, GenerationConfig(max_new_tokens=50, num_beams=2))
    run(Engine(TorchBackend(network)), [sequence])
    assert (len(sequence.ids), sequence.finish_reason) == (128, "length")


def test_impossible_searches_are_refused(network: Transformer) -> None:
    with pytest.raises(SettingError, match="5 beams are more than the 4 sequences that can run"):
        Engine(TorchBackend(network, num_slots=4)).add(Sequence([5], config(num_beams=5)))
    with pytest.raises(SettingError, match="fork cannot search"):
        Sequence([5], config(), forks=[Sequence([5], config(num_beams=2))])


def test_logits_that_are_no_numbers_are_refused() -> None:
    from germinal.errors import CheckpointError

    broken = network_of(random_model("llama"))
    with torch.no_grad():
        broken.embed_tokens.weight.fill_(torch.nan)
    with pytest.raises(CheckpointError, match="not finite"):
        our_answers("llama", broken, [[5, 6]], [config(num_beams=2)])
