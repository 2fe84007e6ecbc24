"""Every generative family through the engine: the greedy tokens of transformers, in any batch.

Prompts are longer than the sliding windows, and of different lengths, so that windows, ALiBi, learned and relative
positions all meet a cache, chunks and neighbours.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from generative_models import (
    CONFIGS,
    EOS,
    START,
    TWO_STACKS,
    network_of,
    our_answers,
    our_sequence,
    prompts,
    random_model,
    run,
    their_answers,
)

from germinal.errors import ContextWindowError, SettingError
from germinal.generation.backends.torch_backend import TorchBackend
from germinal.generation.config import GenerationConfig
from germinal.generation.engine import Engine
from germinal.generation.sequence import Sequence
from germinal.layers.adapters import add_adapter
from germinal.layers.lora_config import LoRAConfig

GREEDY = GenerationConfig(max_new_tokens=14, eos_ids=(EOS,))


@pytest.mark.parametrize("family", CONFIGS)
def test_greedy_tokens_are_transformers(family: str) -> None:
    model = random_model(family)
    network = network_of(model)
    many = prompts(7)
    expected = [their_answers(family, model, [prompt], max_new_tokens=14)[0] for prompt in many]
    assert their_answers(family, model, many, max_new_tokens=14) == expected
    roomy = our_answers(family, network, many, [GREEDY] * 7)
    assert roomy == expected
    assert our_answers(family, network, many, [GREEDY] * 7, num_slots=3, max_step_tokens=9) == expected
    assert len({tuple(answer) for answer in expected}) > 3, "the answers must depend on the prompts"


@pytest.mark.parametrize("family", TWO_STACKS)
def test_scores_after_a_source_are_the_models_log_probabilities(family: str) -> None:
    model = random_model(family)
    (prompt,) = prompts(1, seed=3)
    targets = [[5], [6, 7, 8], [6, 9]]
    forks = [Sequence([START], target_ids=target, encoder_input_ids=prompt) for target in targets]
    lead = our_sequence(family, prompt, GREEDY, forks=forks)
    run(Engine(TorchBackend(network_of(model))), [lead])
    for target, fork in zip(targets, forks, strict=True):
        with torch.no_grad():
            logits = model(torch.tensor([prompt]), decoder_input_ids=torch.tensor([[START, *target[:-1]]])).logits
        logprobs = logits[0].log_softmax(-1)
        expected = [logprobs[place, token].item() for place, token in enumerate(target)]
        assert fork.target_logprobs == pytest.approx(expected, abs=1e-4)
        assert fork.encoded_tokens == 0
    assert lead.encoded_tokens == len(prompt)
    assert lead.cached_prompt_tokens == 0
    assert forks[0].cached_prompt_tokens == len(prompt)


def test_a_source_is_encoded_once_for_all_that_begin_with_it() -> None:
    network = network_of(random_model("t5"))
    long = prompts(1, seed=5)[0] * 3
    other = [*long[:-1], 7]
    engine = Engine(TorchBackend(network, num_slots=6))
    together = [our_sequence("t5", source, GREEDY) for source in (long, long, other, long)]
    answers = run(engine, together)
    assert [sequence.encoded_tokens for sequence in together] == [len(long), 0, len(other), 0]
    assert answers[0] == answers[1] == answers[3]
    again = our_sequence("t5", long, GREEDY)
    assert run(engine, [again]) == answers[:1]
    assert again.encoded_tokens == 0
    engine.weights_changed()
    anew = our_sequence("t5", long, GREEDY)
    assert run(engine, [anew]) == answers[:1]
    assert anew.encoded_tokens == len(long)


def test_a_source_goes_through_its_own_adapter() -> None:
    network = network_of(random_model("flan-t5"))
    (prompt,) = prompts(1, seed=2)
    for seed, name in enumerate(("first", "second")):
        lora = LoRAConfig(rank=4, target_modules=("k_proj", "up_proj"))
        for part in add_adapter(network, name, lora, seed=seed).values():
            torch.nn.init.normal_(part.B, std=0.5)
    names = [None, "first", "second"]
    alone = [
        run(Engine(TorchBackend(network)), [our_sequence("flan-t5", prompt, GREEDY, adapter=name)])[0] for name in names
    ]
    engine = Engine(TorchBackend(network))
    assert run(engine, [our_sequence("flan-t5", prompt, GREEDY, adapter=name) for name in names]) == alone
    assert len({tuple(answer) for answer in alone}) == 3


def test_sampled_answers_to_one_source_share_it_and_do_not_depend_on_company() -> None:
    network = network_of(random_model("marian"))
    config = GenerationConfig(max_new_tokens=8, temperature=1.0, seed=3)
    first, second = prompts(2, seed=8)

    def lead(prompt: list[int]) -> Sequence:
        forks = [our_sequence("marian", prompt, config, index=index) for index in (1, 2)]
        return our_sequence("marian", prompt, config, forks=forks)

    def answers(*leads: Sequence, slots: int) -> list[list[list[int]]]:
        run(Engine(TorchBackend(network, num_slots=slots), max_step_tokens=16), leads)
        return [[each.token_ids for each in (one, *one.forks)] for one in leads]

    together = answers(lead(first), lead(second), slots=8)
    assert together == [*answers(lead(first), slots=2), *answers(lead(second), slots=1)]
    assert len({tuple(answer) for answer in together[0]}) == 3


def test_forced_tokens_are_transformers() -> None:
    model: Any = random_model("bart")
    network = network_of(model)
    many = prompts(4, seed=11)
    forced = {"forced_bos_token_id": 9, "forced_eos_token_id": EOS}
    expected = their_answers("bart", model, many, max_new_tokens=8, eos_token_id=EOS, **forced)
    config = GenerationConfig(max_new_tokens=8, eos_ids=(EOS,), forced_bos_id=9, forced_eos_id=EOS)
    assert our_answers("bart", network, many, [config] * 4) == expected
    assert all(answer[0] == 9 and len(answer) < 8 for answer in expected)


def test_windows_and_empty_sources() -> None:
    network = network_of(random_model("bart"))
    engine = Engine(TorchBackend(network))
    with pytest.raises(ContextWindowError, match="129 tokens does not fit the encoder's window of 128"):
        engine.add(Sequence([START], GREEDY, encoder_input_ids=[5] * 129))
    with pytest.raises(SettingError, match="encoder input has no tokens"):
        Sequence([START], GREEDY, encoder_input_ids=[])
    with pytest.raises(SettingError, match="same prompt, encoder input"):
        Sequence([START], GREEDY, encoder_input_ids=[3], forks=[Sequence([START], GREEDY, encoder_input_ids=[4])])
    longest = Sequence([START], GenerationConfig(max_new_tokens=500), encoder_input_ids=[5] * 128)
    run(engine, [longest])
    assert (len(longest.ids), longest.finish_reason) == (128, "length")
