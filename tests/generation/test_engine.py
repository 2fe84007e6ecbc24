"""The engine against transformers' `generate` and plain forward passes, and against itself in other batches."""

from __future__ import annotations

import copy
import random
from collections.abc import Sequence as SequenceOf
from typing import Any

import pytest
import torch
from generative_models import network_of, our_sequence, random_model
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import ours_from, random_llama

from germinal.errors import ContextWindowError, SettingError
from germinal.generation.backends.torch_backend import TorchBackend
from germinal.generation.config import GenerationConfig
from germinal.generation.engine import Engine
from germinal.generation.sequence import Sequence
from germinal.layers.adapters import add_adapter
from germinal.layers.lora_config import LoRAConfig
from germinal.models.transformer import Transformer

GREEDY = GenerationConfig(max_new_tokens=12, eos_ids=(2,))


@pytest.fixture(scope="module")
def model() -> Any:
    return random_llama()


@pytest.fixture(scope="module")
def network(model: Any) -> Transformer:
    network: Transformer = ours_from(model)
    return network


def prompts(count: int, shared: int = 0, seed: int = 0) -> list[list[int]]:
    """Random prompts of 1 to 40 tokens, each after the same `shared` tokens."""
    chance = random.Random(seed)
    prefix = [chance.randrange(3, 97) for _ in range(shared)]
    return [prefix + [chance.randrange(3, 97) for _ in range(chance.randint(1, 40))] for _ in range(count)]


def run(engine: Engine, sequences: SequenceOf[Sequence]) -> list[list[int]]:
    for sequence in sequences:
        engine.add(sequence)
    while engine.has_work:
        engine.step()
    return [sequence.token_ids for sequence in sequences]


def theirs(model: Any, prompt: list[int]) -> list[int]:
    """transformers' greedy answer, without the end-of-sequence token."""
    ids = torch.tensor([prompt])
    output = model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False, eos_token_id=2, pad_token_id=0
    )
    return [token for token in output[0, len(prompt) :].tolist() if token != 2]


@pytest.mark.parametrize("shared", [0, 30], ids=["unrelated", "shared prefix"])
def test_greedy_tokens_are_transformers(model: Any, network: Transformer, shared: int) -> None:
    many = prompts(20, shared)
    # Few slots and small steps: sequences wait, prompts run in chunks, slots are reused.
    sequences = [Sequence(prompt, GREEDY) for prompt in many]
    assert run(Engine(TorchBackend(network, num_slots=4), max_step_tokens=24), sequences) == [
        theirs(model, prompt) for prompt in many
    ]
    if shared:
        assert sum(sequence.cached_tokens >= shared for sequence in sequences) == len(many) - 1


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), slots=st.integers(1, 6), step=st.integers(1, 50), shared=st.sampled_from([0, 5, 33]))
def test_tokens_do_not_depend_on_other_sequences(
    network: Transformer, seed: int, slots: int, step: int, shared: int
) -> None:
    """Greedy and sampled sequences, alone and together, with any number of slots and any step size."""
    sampled = GenerationConfig(max_new_tokens=8, temperature=0.9, top_p=0.9, seed=seed)
    configs = [GREEDY, sampled]
    many = prompts(6, shared, seed)
    alone = [
        run(Engine(TorchBackend(network, num_slots=1)), [Sequence(prompt, configs[number % 2])])[0]
        for number, prompt in enumerate(many)
    ]
    engine = Engine(TorchBackend(network, num_slots=slots), max_step_tokens=step)
    together = run(engine, [Sequence(prompt, configs[number % 2]) for number, prompt in enumerate(many)])
    assert together == alone


@pytest.mark.parametrize(("slots", "step"), [(8, 256), (1, 256), (2, 7)], ids=["roomy", "one slot", "small steps"])
def test_scores_are_the_models_log_probabilities(model: Any, network: Transformer, slots: int, step: int) -> None:
    (prompt,) = prompts(1, shared=20)
    targets = [[5], [6, 7], [8, 9, 10, 11], [6, 7, 12]]
    forks = [Sequence(prompt, target_ids=target) for target in targets]
    lead = Sequence(prompt, GREEDY, forks=forks)
    (generated,) = run(Engine(TorchBackend(network, num_slots=slots), max_step_tokens=step), [lead])
    assert generated == theirs(model, prompt)
    for target, fork in zip(targets, forks, strict=True):
        with torch.no_grad():
            logprobs = model(torch.tensor([prompt + target])).logits[0].log_softmax(-1)
        expected = [logprobs[len(prompt) - 1 + place, token].item() for place, token in enumerate(target)]
        assert fork.target_logprobs == pytest.approx(expected, abs=1e-4)
        assert fork.finish_reason == "stop"
    if slots == 8:
        assert all(fork.num_computed - fork.cached_tokens < len(prompt) for fork in forks)


def test_answers_to_one_prompt_share_it_and_differ(network: Transformer) -> None:
    config = GenerationConfig(max_new_tokens=10, temperature=1.0, seed=3, n=3)
    (prompt,) = prompts(1, shared=20)
    forks = [Sequence(prompt, config, index=index) for index in (1, 2)]
    lead = Sequence(prompt, config, forks=forks)
    run(Engine(TorchBackend(network)), [lead])
    answers = [tuple(sequence.token_ids) for sequence in (lead, *forks)]
    assert len(set(answers)) == 3
    assert [fork.cached_tokens for fork in forks] == [len(prompt)] * 2
    again = [Sequence(prompt, config, index=index) for index in range(3)]
    assert [tuple(ids) for ids in run(Engine(TorchBackend(network)), again)] == answers


def test_each_sequence_goes_through_its_own_adapter(model: Any, network: Transformer) -> None:
    adapted = Transformer(network.config, device="meta")
    adapted.load_state_dict({name: tensor.clone() for name, tensor in network.state_dict().items()}, assign=True)
    for seed, name in enumerate(("first", "second")):
        parts = add_adapter(adapted, name, LoRAConfig(rank=4, target_modules=("q_proj", "v_proj")), seed=seed)
        for part in parts.values():
            torch.nn.init.normal_(part.B, std=0.3)
    (prompt,) = prompts(1, shared=25)
    names = [None, "first", "second"]
    alone = [run(Engine(TorchBackend(adapted)), [Sequence(prompt, GREEDY, adapter=name)])[0] for name in names]
    together = run(Engine(TorchBackend(adapted)), [Sequence(prompt, GREEDY, adapter=name) for name in names])
    assert together == alone
    assert alone[0] == theirs(model, prompt)
    assert len({tuple(ids) for ids in alone}) == 3
    engine = Engine(TorchBackend(adapted))
    after = [Sequence(prompt, GREEDY, adapter=name) for name in names]
    assert [run(engine, [sequence])[0] for sequence in after] == alone
    assert [sequence.cached_tokens for sequence in after] == [0, 0, 0], "a prefix of another adapter is another prefix"


def test_the_next_turn_of_a_chat_shares_the_earlier_ones(network: Transformer) -> None:
    engine = Engine(TorchBackend(network))
    first = Sequence(prompts(1, shared=30)[0], GREEDY)
    run(engine, [first])
    turn = Sequence([*first.ids, 5, 6, 7], GREEDY)
    run(engine, [turn])
    assert turn.cached_tokens >= len(first.ids) - 1
    assert turn.token_ids == run(Engine(TorchBackend(network)), [Sequence(turn.prompt_ids, GREEDY)])[0]
    engine.weights_changed()
    anew = Sequence(turn.prompt_ids, GREEDY)
    run(engine, [anew])
    assert anew.cached_tokens == 0


@pytest.mark.parametrize("family", ["llama", "t5"])
def test_no_sequence_shares_what_old_weights_computed(family: str) -> None:
    """The weights change while an answer is generated: no later sequence shares the states of it or of its fork."""
    network = network_of(random_model(family))
    prompt = [5 + place % 20 for place in range(21)]
    long = GenerationConfig(max_new_tokens=20, temperature=1.0, seed=1)
    engine = Engine(TorchBackend(network, num_slots=3))
    fork = our_sequence(family, prompt, long, index=1)
    running = our_sequence(family, prompt, long, forks=[fork])
    engine.add(running)
    for _ in range(3):
        engine.step()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(1.5)
    engine.weights_changed()
    beside = our_sequence(family, prompt, GREEDY)
    run(engine, [beside])
    assert running.finished
    assert fork.finished
    after = our_sequence(family, prompt, GREEDY)
    run(engine, [after])
    (expected,) = run(Engine(TorchBackend(network)), [our_sequence(family, prompt, GREEDY)])
    assert (beside.cached_prompt_tokens, beside.token_ids) == (0, expected)
    assert after.token_ids == expected
    assert after.cached_prompt_tokens > 0, "what the new weights computed may be shared"


def test_no_sequence_shares_what_a_search_computed_with_old_weights(network: Transformer) -> None:
    changing = copy.deepcopy(network)
    (prompt,) = prompts(1, shared=20)
    search = GenerationConfig(max_new_tokens=12, num_beams=3)
    engine = Engine(TorchBackend(changing, num_slots=4))
    engine.add(Sequence(prompt, search))
    for _ in range(4):
        engine.step()
    with torch.no_grad():
        changing.embed_tokens.weight.mul_(2)
    engine.weights_changed()
    while engine.has_work:
        engine.step()
    after = Sequence(prompt, GREEDY)
    (expected,) = run(Engine(TorchBackend(changing)), [Sequence(prompt, GREEDY)])
    assert (run(engine, [after]), after.cached_tokens) == ([expected], 0)


def test_cancelling_frees_the_slot(network: Transformer) -> None:
    engine = Engine(TorchBackend(network, num_slots=1))
    long = Sequence([5, 6, 7], GenerationConfig(max_new_tokens=200))
    waiting = Sequence([8, 9], GREEDY)
    engine.add(long)
    engine.add(waiting)
    engine.step()
    engine.cancel(long)
    assert long.finish_reason == "cancelled"
    while engine.has_work:
        engine.step()
    assert waiting.finish_reason in ("stop", "length")
    queued = Sequence([8, 9], GREEDY)
    engine.add(queued)
    engine.cancel(queued)
    assert not engine.has_work


def test_the_context_window_ends_an_answer_and_refuses_a_prompt(network: Transformer) -> None:
    engine = Engine(TorchBackend(network))
    nearly = Sequence([5] * 250, GenerationConfig(max_new_tokens=50))
    run(engine, [nearly])
    assert (len(nearly.ids), nearly.finish_reason) == (256, "length")
    with pytest.raises(
        ContextWindowError, match="256 tokens with one more token does not fit the context window of 256"
    ):
        engine.add(Sequence([5] * 256, GREEDY))
    engine.add(Sequence([5] * 250, target_ids=[5] * 6))
    with pytest.raises(ContextWindowError, match="continuation"):
        engine.add(Sequence([5] * 250, target_ids=[5] * 7))


def test_impossible_sequences_are_refused() -> None:
    with pytest.raises(SettingError, match="no tokens"):
        Sequence([], GREEDY)
    with pytest.raises(SettingError, match="no tokens to score"):
        Sequence([1], target_ids=[])
    with pytest.raises(SettingError, match="same prompt"):
        Sequence([1], GREEDY, forks=[Sequence([2], GREEDY)])
