"""The sampler: frequencies, seeds, log-probabilities, ties and independence of the batch."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from scipy import stats

from germinal.errors import CheckpointError
from germinal.generation.config import GenerationConfig
from germinal.generation.processors import History, processors_for
from germinal.generation.sampler import SampledToken, Sampler, choose_batch

VOCAB_SIZE = 97


def random_logits(rows: int, seed: int = 0, scale: float = 3.0) -> torch.Tensor:
    return torch.randn(rows, VOCAB_SIZE, generator=torch.Generator().manual_seed(seed)) * scale


def choose(sampler: Sampler, logits: torch.Tensor, answer: Sequence[int] = ()) -> SampledToken:
    """The token that follows an answer, from logits [V]."""
    (token,) = choose_batch(logits.unsqueeze(0), [sampler], [answer])
    return token


def test_greedy_takes_the_first_of_the_largest() -> None:
    logits = torch.zeros(3, 50_000)
    logits[1, [7, 4_000, 49_999]] = 2.0
    logits[2, 49_999] = 1.0
    tokens = choose_batch(logits, [Sampler(GenerationConfig())] * 3, [[]] * 3)
    assert [token.id for token in tokens] == [0, 7, 49_999]
    assert tokens[0].logprob is None
    assert tokens[0].top_logprobs == ()


@pytest.mark.parametrize(
    "settings",
    [{}, {"top_k": 12}, {"top_p": 0.8}, {"min_p": 0.05}, {"top_k": 30, "top_p": 0.9, "logit_bias": {5: 2.0}}],
    ids=str,
)
def test_sampled_frequencies_follow_the_distribution(settings: dict[str, object]) -> None:
    logits, draws = random_logits(1, scale=2.0), 8_000
    config = GenerationConfig(temperature=1.3, seed=11, **settings)
    sampler = Sampler(config)
    chunk = logits.expand(2_000, -1)
    ids = [t.id for _ in range(draws // 2_000) for t in choose_batch(chunk, [sampler] * 2_000, [[]] * 2_000)]
    processed = logits
    for processor in processors_for(config):
        processed = processor(processed, History())
    expected = processed.softmax(-1).squeeze(0).double() * draws
    observed = torch.bincount(torch.tensor(ids), minlength=VOCAB_SIZE)
    assert observed[expected == 0].sum() == 0
    often = expected >= 5  # the test's own condition; the rest is one class
    rest = (~often) & (expected > 0)
    classes = (
        torch.cat([expected[often], expected[rest].sum().view(1)]),
        torch.cat([observed[often], observed[rest].sum().view(1)]),
    )
    kept = classes[0] > 0
    result = stats.chisquare(classes[1][kept].numpy(), (classes[0][kept] / classes[0][kept].sum() * draws).numpy())
    assert result.pvalue > 1e-3


def run(sampler: Sampler, steps: torch.Tensor) -> list[int]:
    generated: list[int] = []
    for logits in steps:
        generated.append(choose(sampler, logits, generated).id)
    return generated


CONFIGS = [
    GenerationConfig(temperature=0.8, seed=1),
    GenerationConfig(temperature=0.8, seed=2),
    GenerationConfig(),
    GenerationConfig(temperature=1.5, top_p=0.9, seed=1),
    GenerationConfig(temperature=0.8, seed=1, repetition_penalty=1.3, logprobs=2),
    GenerationConfig(presence_penalty=1.0, frequency_penalty=0.5),
    GenerationConfig(temperature=1.0, top_k=5, min_p=0.01, seed=9),
    GenerationConfig(repetition_penalty=1.2),
]


def test_tokens_do_not_depend_on_the_batch() -> None:
    steps = torch.stack([random_logits(len(CONFIGS), seed) for seed in range(30)])  # [steps, B, V]
    alone = [run(Sampler(config, prompt_ids=[3, 4]), steps[:, row]) for row, config in enumerate(CONFIGS)]
    order = [5, 0, 7, 3, 1, 6, 2, 4]
    samplers = [Sampler(CONFIGS[row], prompt_ids=[3, 4]) for row in order]
    histories: list[list[int]] = [[] for _ in order]
    for step in steps:
        for history, token in zip(histories, choose_batch(step[order], samplers, histories), strict=True):
            history.append(token.id)
    assert histories == [alone[row] for row in order]


def test_seeds_and_answer_indices_give_streams_of_their_own() -> None:
    steps = random_logits(1).expand(40, -1)
    streams = {
        (seed, index): tuple(run(Sampler(GenerationConfig(temperature=1.0, seed=seed), index=index), steps))
        for seed in (0, 1, -1)
        for index in (0, 1, 2)
    }
    assert len(set(streams.values())) == len(streams)
    assert streams[1, 2] == tuple(run(Sampler(GenerationConfig(temperature=1.0, seed=1), index=2), steps))


def test_each_prompt_has_a_stream_of_its_own() -> None:
    steps, config = random_logits(1).expand(40, -1), GenerationConfig(temperature=1.0, seed=1)
    prompts: list[list[int]] = [[number] for number in range(8)] + [[1, 2], [12], [0, 12], [258], [2, 1]]
    streams = {tuple(run(Sampler(config, prompt), steps)) for prompt in prompts}
    assert len(streams) == len(prompts)
    read_by_an_encoder = {tuple(run(Sampler(config, [0], drawn_for=prompt), steps)) for prompt in prompts}
    assert read_by_an_encoder == streams


def test_without_a_seed_the_drawn_one_can_be_recorded() -> None:
    steps = random_logits(1).expand(40, -1)
    sampler = Sampler(GenerationConfig(temperature=1.0))
    again = Sampler(GenerationConfig(temperature=1.0, seed=sampler.seed))
    assert run(sampler, steps) == run(again, steps)
    assert sampler.seed != Sampler(GenerationConfig(temperature=1.0)).seed


def test_logprobs_are_the_models_own() -> None:
    logits = random_logits(1)[0]
    expected = logits.log_softmax(-1)
    likeliest = expected.topk(4)
    config = GenerationConfig(
        temperature=0.5, top_k=3, seed=0, logprobs=4, logit_bias={int(likeliest.indices[0]): -100}
    )
    token = choose(Sampler(config), logits)
    assert token.id != int(likeliest.indices[0])
    assert token.logprob == pytest.approx(expected[token.id].item(), abs=1e-6)
    assert [top for top, _ in token.top_logprobs] == likeliest.indices.tolist()
    assert [value for _, value in token.top_logprobs] == pytest.approx(likeliest.values.tolist(), abs=1e-6)


def test_only_those_who_ask_get_logprobs_and_as_many_as_they_ask() -> None:
    configs = [GenerationConfig(logprobs=count) for count in (None, 0, 3, VOCAB_SIZE)]
    tokens = choose_batch(random_logits(4), [Sampler(config) for config in configs], [[]] * 4)
    assert [token.logprob is None for token in tokens] == [True, False, False, False]
    assert [len(token.top_logprobs) for token in tokens] == [0, 0, 3, VOCAB_SIZE]


def test_the_repetition_penalty_counts_the_prompt_and_the_others_do_not() -> None:
    logits = torch.zeros(VOCAB_SIZE)
    logits[3], logits[4] = 2.0, 1.9
    assert choose(Sampler(GenerationConfig(repetition_penalty=1.5), prompt_ids=[3]), logits).id == 4
    assert choose(Sampler(GenerationConfig(presence_penalty=1.0), prompt_ids=[3]), logits).id == 3
    assert choose(Sampler(GenerationConfig(presence_penalty=1.0)), logits, [3]).id == 4
    assert choose(Sampler(GenerationConfig(frequency_penalty=0.2)), logits, [3, 4, 3]).id == 4


def test_half_precision_logits_are_widened() -> None:
    logits = random_logits(2).bfloat16()
    tokens = choose_batch(logits, [Sampler(GenerationConfig(logprobs=1))] * 2, [[], []])
    expected = logits.float().log_softmax(-1)
    assert [token.logprob for token in tokens] == pytest.approx(expected.amax(-1).tolist(), abs=1e-6)


def test_logits_that_are_no_numbers_are_refused() -> None:
    for bad in (float("nan"), float("inf")):
        logits = random_logits(2)
        logits[1, 5] = bad
        with pytest.raises(CheckpointError, match="not finite"):
            choose_batch(logits, [Sampler(GenerationConfig())] * 2, [[], []])


@pytest.mark.parametrize("vocab_size", [1, 5, 255, 256, 257, 3000])
def test_every_number_finds_the_token_that_holds_it(vocab_size: int) -> None:
    logits = torch.randn(vocab_size, generator=torch.Generator().manual_seed(0)) * 5
    logits[torch.rand(vocab_size, generator=torch.Generator().manual_seed(1)) < 0.4] = -torch.inf
    logits[vocab_size // 2] = 1.0
    cumulative = logits.double().softmax(-1).cumsum(-1)
    for number in (0.0, 1e-12, 0.1, 0.25, 0.5, 0.75, 0.999, 1 - 2**-53):

        class Fixed(Sampler):
            def uniform(self, number: float = number) -> float:
                return number

        token = choose(Fixed(GenerationConfig(temperature=1.0)), logits).id
        assert logits[token] > -torch.inf
        before = cumulative[token - 1].item() if token else 0.0
        assert before - 1e-6 <= number <= cumulative[token].item() + 1e-6
