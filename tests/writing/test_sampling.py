"""What is sampled depends on the seed and the prompt: never on the prompts beside it, their order or the batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from generative_models import our_sequence, prompts

import germinal
from germinal.generation.config import GenerationConfig

PROMPTS = [f"review number {number}" for number in range(16)]
SETTINGS: dict[str, Any] = {"temperature": 1.0, "seed": 5, "max_new_tokens": 6, "eos_ids": []}


@pytest.fixture(scope="module")
def sample(llama_folder: Path) -> Callable[..., list[tuple[int, ...]]]:
    """Token ids of one answer to each prompt."""
    lm = germinal.load(str(llama_folder), precision="float32", device="cpu")

    def sample(prompts: Sequence[str], **settings: Any) -> list[tuple[int, ...]]:
        return [answer.token_ids for answer in lm.generate(list(prompts), **{**SETTINGS, **settings})]

    return sample


def test_an_answer_is_the_same_whatever_the_company(sample: Callable[..., list[tuple[int, ...]]]) -> None:
    together = dict(zip(PROMPTS, sample(PROMPTS), strict=True))
    for company in (PROMPTS[::-1], PROMPTS[3:7], PROMPTS[9:10], [*PROMPTS[5:], *PROMPTS[:5]]):
        assert sample(company) == [together[prompt] for prompt in company]
    assert len(set(together.values())) == len(PROMPTS)
    assert sample(PROMPTS, seed=6) != list(together.values())


def test_equal_prompts_get_the_answers_that_n_would_give(llama_folder: Path) -> None:
    lm = germinal.load(str(llama_folder), precision="float32", device="cpu")
    several = [answer.token_ids for answer in lm.generate("a film", n=4, **SETTINGS)]
    assert len(set(several)) == 4
    assert [each.token_ids for each in lm.generate(["a film", "b", "a film", "a film", "a film"], **SETTINGS)][::2] == (
        [several[0], several[1], several[3]]
    )
    pairs = lm.generate(["a film", "a film"], n=2, **SETTINGS)
    assert [answer.token_ids for pair in pairs for answer in pair] == several
    assert lm.generate("a film", **SETTINGS).token_ids == several[0]
    assert "".join(lm.stream("a film", **SETTINGS)) == lm.generate("a film", **SETTINGS).text


def test_inputs_of_an_encoder_decoder_draw_numbers_of_their_own() -> None:
    config = GenerationConfig(**SETTINGS)
    samplers = [our_sequence("bart", prompt, config).sampler for prompt in prompts(8)]
    assert len({sampler.uniform() for sampler in samplers}) == 8
