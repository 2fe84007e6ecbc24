"""Every logits processor against transformers' of the same name, on random logits with ties and extremes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    SequenceBiasLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from germinal.generation import processors
from germinal.generation.config import GenerationConfig
from germinal.generation.processors import (
    PROCESSORS,
    History,
    LogitBias,
    MinP,
    PresenceFrequencyPenalty,
    RepetitionPenalty,
    Temperature,
    TopK,
    TopP,
    describe,
    processors_for,
)

NO_HISTORY = History()


@st.composite
def logits(draw: st.DrawFn, ties: bool = True) -> Tensor:
    """[B, V]: ordinary, with many equal values, or spread over many orders of magnitude."""
    shape = (draw(st.integers(1, 4)), draw(st.integers(1, 40)))
    kinds = [st.floats(-20, 20, width=32), st.floats(-1e4, 1e4, width=32)]
    if ties:
        kinds.append(st.integers(-2, 2).map(float))
    return torch.from_numpy(draw(arrays(np.float32, shape, elements=draw(st.sampled_from(kinds)))))


@st.composite
def logits_and_ids(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    scores = draw(logits())
    length = draw(st.integers(1, 12))
    ids = draw(arrays(np.int64, (len(scores), length), elements=st.integers(0, scores.shape[1] - 1)))
    return scores, torch.from_numpy(ids)


def history_of(ids: Tensor) -> History:
    """Answers with these tokens, after empty prompts."""
    return History([()] * len(ids), ids.tolist())


@given(logits_and_ids(), st.floats(0.01, 10))
def test_repetition_penalty(given_: tuple[Tensor, Tensor], penalty: float) -> None:
    scores, ids = given_
    ours = RepetitionPenalty(penalty)(scores, history_of(ids))
    assert torch.equal(ours, RepetitionPenaltyLogitsProcessor(penalty)(ids, scores.clone()))


@given(logits_and_ids(), st.floats(-2, 2), st.floats(-2, 2))
def test_presence_and_frequency_penalties_follow_openais_formula(
    given_: tuple[Tensor, Tensor], presence: float, frequency: float
) -> None:
    scores, ids = given_
    ours = PresenceFrequencyPenalty(presence, frequency)(scores, history_of(ids))
    for row, row_ids in enumerate(ids.tolist()):
        for token in range(scores.shape[1]):
            count = row_ids.count(token)
            expected = scores[row, token].item() - count * frequency - (count > 0) * presence
            assert ours[row, token].item() == pytest.approx(expected, rel=1e-5, abs=1e-5)


@given(logits(), st.data())
def test_logit_bias(scores: Tensor, data: st.DataObject) -> None:
    token, bias = st.integers(0, scores.shape[1] - 1), st.floats(-100, 100)
    biases = data.draw(st.dictionaries(token, bias.filter(lambda value: value != 0), min_size=1))
    peer = SequenceBiasLogitsProcessor([[[token], float(value)] for token, value in biases.items()])
    ours = LogitBias(tuple(biases.items()))(scores, NO_HISTORY)
    assert torch.equal(ours, peer(torch.zeros(len(scores), 1, dtype=torch.long), scores.clone()))


@given(logits(), st.floats(1e-3, 100))
def test_temperature(scores: Tensor, temperature: float) -> None:
    ours = Temperature(temperature)(scores, NO_HISTORY)
    assert torch.equal(ours, TemperatureLogitsWarper(temperature)(None, scores.clone()))


@given(logits(), st.integers(1, 60))
def test_top_k(scores: Tensor, k: int) -> None:
    assert torch.equal(TopK(k)(scores, NO_HISTORY), TopKLogitsWarper(k)(None, scores.clone()))


@given(logits(), st.floats(0, 1))
def test_min_p(scores: Tensor, p: float) -> None:
    assert torch.equal(MinP(p)(scores, NO_HISTORY), MinPLogitsWarper(p)(None, scores.clone()))


def assert_same_nucleus(scores: Tensor, p: float) -> None:
    """As many tokens and the same logits as transformers keeps; a token more or less only where its sum meets p within
    float32's rounding. Which of equal logits stay is not compared: transformers' sort is not stable."""
    ours, peer = TopP(p)(scores, NO_HISTORY), TopPLogitsWarper(p)(None, scores.clone())
    descending = scores.sort(dim=-1, descending=True).values
    probabilities = descending.double().softmax(-1)
    mass_above = probabilities.cumsum(-1) - probabilities
    for row in range(len(scores)):
        kept, peer_kept = (int((part[row] > -torch.inf).sum()) for part in (ours, peer))
        assert torch.equal(ours[row].sort(descending=True).values[:kept], descending[row, :kept])
        fewer, more = sorted((kept, peer_kept))
        assert fewer >= 1
        assert bool(((mass_above[row, fewer:more] - p).abs() < 2e-6).all())


@given(logits(), st.floats(0.001, 0.9999))
def test_top_p(scores: Tensor, p: float) -> None:
    assert_same_nucleus(scores, p)


@given(logits(), st.floats(0.001, 0.9999), st.integers(1, 8))
def test_top_p_where_the_likeliest_few_do_not_reach_p(scores: Tensor, p: float, looked_at: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(processors, "_NUCLEUS", looked_at)
        assert_same_nucleus(scores, p)


@pytest.mark.parametrize("p", [0.3, 0.95, 0.999])
def test_top_p_on_a_whole_vocabulary(p: float) -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(3, 49_152, generator=generator) * torch.tensor([[0.5], [3.0], [10.0]])
    assert_same_nucleus(scores, p)


def test_top_p_of_large_logits() -> None:
    kept = TopP(0.50001)(torch.tensor([[1e4, 1e4, 0.0]]), NO_HISTORY) > -torch.inf
    assert kept.tolist() == [[True, True, False]]
    kept = TopP(0.49999)(torch.tensor([[1e4, 1e4, 0.0]]), NO_HISTORY) > -torch.inf
    assert kept.tolist() == [[True, False, False]]


def test_top_p_among_equals_keeps_just_enough() -> None:
    kept = TopP(0.45)(torch.zeros(1, 10), NO_HISTORY) > -torch.inf
    assert kept.tolist() == [[True] * 5 + [False] * 5]
    kept = TopP(0.95)(torch.tensor([[5.0, 0.0, 0.0, 0.0]]), NO_HISTORY) > -torch.inf
    assert kept.tolist() == [[True, False, False, False]]


@settings(max_examples=60)
@given(
    logits_and_ids(),
    st.floats(0.1, 3),
    st.integers(1, 10),
    st.floats(0.05, 0.99),
    st.floats(0.01, 0.5),
    st.floats(0.5, 2).filter(lambda value: value != 1),
)
def test_all_in_order_equal_transformers_list(
    given_: tuple[Tensor, Tensor], temperature: float, k: int, p: float, min_p: float, penalty: float
) -> None:
    scores, ids = given_
    config = GenerationConfig(temperature=temperature, top_k=k, top_p=p, min_p=min_p, repetition_penalty=penalty)
    ours = scores
    for processor in processors_for(config):
        ours = processor(ours, history_of(ids))
    peer = LogitsProcessorList(
        [
            RepetitionPenaltyLogitsProcessor(penalty),
            TemperatureLogitsWarper(temperature),
            TopKLogitsWarper(k),
            TopPLogitsWarper(p),
            MinPLogitsWarper(min_p),
        ]
    )(ids, scores.clone())
    for ours_row, peer_row in zip(ours.sort(dim=-1).values, peer.sort(dim=-1).values, strict=True):
        different = ours_row != peer_row
        assert int(different.sum()) <= 1  # where the nucleus ends within rounding of p


def test_a_row_does_not_depend_on_its_company() -> None:
    scores = torch.randn(5, 300, generator=torch.Generator().manual_seed(1)) * 4
    config = GenerationConfig(temperature=0.7, top_k=50, top_p=0.8, min_p=0.02, logit_bias={3: 5.0})
    for processor in processors_for(config):
        alone = torch.cat([processor(row.unsqueeze(0), NO_HISTORY) for row in scores])
        assert torch.equal(processor(scores, NO_HISTORY), alone)


def test_processors_leave_their_input_as_it_was() -> None:
    scores, history = torch.randn(2, 30), History([[1, 2], [3]], [[4], [5, 6]])
    before = scores.clone()
    all_of_them = (LogitBias(((1, 2.0),)), RepetitionPenalty(2.0), PresenceFrequencyPenalty(1, 1), Temperature(2.0))
    for processor in (*all_of_them, TopK(2), TopP(0.5), MinP(0.5)):
        processor(scores, history)
        assert torch.equal(scores, before)


@pytest.mark.parametrize(
    ("settings_", "names"),
    [
        ({}, []),
        ({"temperature": 1.0}, []),
        ({"temperature": 0.5, "min_p": 0.1, "top_p": 0.9, "top_k": 4}, ["temperature", "top_k", "top_p", "min_p"]),
        (
            {"frequency_penalty": 1.0, "repetition_penalty": 1.2, "logit_bias": {1: 1}},
            ["logit_bias", "repetition_penalty", "presence_frequency_penalty"],
        ),
    ],
)
def test_the_order_is_fixed_and_only_what_is_asked_for_acts(settings_: dict[str, Any], names: list[str]) -> None:
    assert [processor.name for processor in processors_for(GenerationConfig(**settings_))] == names


def test_description_lists_all_in_order() -> None:
    config = GenerationConfig(temperature=0.7, top_k=50, top_p=0.9, logit_bias={7: -100})
    assert describe(config) == [
        "logit_bias: 7 -100",
        "temperature: 0.7",
        "top_k: 50",
        "top_p: 0.9",
        "sample: one token by its probability",
    ]
    assert describe(GenerationConfig()) == ["greedy: the likeliest token"]
    assert [kind.name for kind in PROCESSORS][-1] == "min_p"
