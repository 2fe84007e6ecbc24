"""Our Transformer against transformers' LlamaForCausalLM, on tiny random models of every shape the family has."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny_models import ours_from, random_llama

from germinal.errors import CheckpointError, SettingError, UnsupportedError
from germinal.models import families
from germinal.models.transformer import Transformer

LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}

YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}

SHAPES: dict[str, dict[str, Any]] = {
    "grouped": {},
    "multi-head": {"num_key_value_heads": 6},
    "multi-query, tied": {"num_key_value_heads": 1, "tie_word_embeddings": True},
    "odd head width": {"hidden_size": 42, "num_attention_heads": 7, "num_key_value_heads": 7, "head_dim": 10},
    "llama 3 rope": {"rope_parameters": {"rope_theta": 500_000.0, **LLAMA3}},
    "linear rope": {"rope_parameters": {"rope_theta": 10_000.0, "rope_type": "linear", "factor": 4.0}},
    "dynamic rope": {"rope_parameters": {"rope_theta": 10_000.0, "rope_type": "dynamic", "factor": 4.0}},
    "dynamic rope, beyond its window": {
        "max_position_embeddings": 8,
        "rope_parameters": {"rope_theta": 10_000.0, "rope_type": "dynamic", "factor": 4.0},
    },
    "yarn": {"rope_parameters": {"rope_theta": 10_000.0, **YARN}},
    "yarn, bounds": {
        "rope_parameters": {"rope_theta": 1e6, **YARN, "beta_fast": 4, "beta_slow": 2.5, "truncate": False}
    },
    "yarn, attention factor": {"rope_parameters": {"rope_theta": 10_000.0, **YARN, "attention_factor": 0.7}},
    "yarn, two scales": {"rope_parameters": {"rope_theta": 10_000.0, **YARN, "mscale": 1.5, "mscale_all_dim": 0.5}},
    "biased": {"attention_bias": True, "mlp_bias": True},
    "one layer, wide base": {
        "num_hidden_layers": 1,
        "rope_parameters": {"rope_theta": 100_000.0, "rope_type": "default"},
    },
}


@pytest.fixture(params=SHAPES.values(), ids=SHAPES.keys())
def pair(request: pytest.FixtureRequest) -> tuple[Any, Transformer]:
    model = random_llama(**request.param)
    return model, ours_from(model)


def masks(length: int) -> dict[str, torch.Tensor]:
    """Two sequences a batch: none padded, padded on the left, on the right, and with holes."""
    full = torch.ones(2, length, dtype=torch.long)
    left, right, holes = full.clone(), full.clone(), full.clone()
    left[0, :5], right[0, -5:], holes[1, 3:6] = 0, 0, 0
    return {"full": full, "left": left, "right": right, "holes": holes}


@pytest.mark.parametrize("padding", ["full", "left", "right", "holes"])
def test_hidden_states_and_logits(pair: tuple[Any, Transformer], padding: str) -> None:
    theirs, ours = pair
    input_ids = torch.randint(3, 97, (2, 21))
    mask = masks(21)[padding]
    positions = torch.arange(21).expand(2, -1)
    with torch.no_grad():
        expected = theirs(input_ids, attention_mask=mask, position_ids=positions, output_hidden_states=True)
        hidden_states = ours(input_ids, mask)
        logits = ours.logits(hidden_states)
    real = mask.bool()
    torch.testing.assert_close(hidden_states[real], expected.hidden_states[-1][real], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(logits[real], expected.logits[real], atol=1e-4, rtol=1e-4)


def test_gradients(pair: tuple[Any, Transformer]) -> None:
    theirs, ours = pair
    input_ids = torch.randint(3, 97, (2, 13))
    labels = input_ids.clone()
    labels[0, :4] = -100
    theirs(input_ids, labels=labels).loss.backward()
    logits = ours.logits(ours(input_ids))
    torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten()).backward()
    rules = families.FAMILIES["llama"].hf_rules(ours.config)
    expected = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        published = rules.theirs(name)
        assert published is not None
        torch.testing.assert_close(parameter.grad, expected[published[0]].grad, atol=1e-3, rtol=1e-3)


def test_a_fully_padded_sequence_does_not_spread_nan(pair: tuple[Any, Transformer]) -> None:
    _, ours = pair
    mask = torch.ones(2, 9, dtype=torch.long)
    mask[0] = 0
    assert torch.isfinite(ours(torch.randint(3, 97, (2, 9)), mask)).all()


def test_bfloat16_stays_close(pair: tuple[Any, Transformer]) -> None:
    _, ours = pair
    input_ids = torch.randint(3, 97, (1, 17))
    with torch.no_grad():
        exact = ours.logits(ours(input_ids)).softmax(-1)
        rounded = ours.bfloat16().logits(ours(input_ids)).float().softmax(-1)
    assert (exact - rounded).abs().sum(-1).mean() < 0.2


def test_config_round_trip(pair: tuple[Any, Transformer]) -> None:
    _, ours = pair
    family = families.FAMILIES["llama"]
    assert family.config_from_hf(family.config_to_hf(ours.config)) == ours.config


@pytest.mark.parametrize(
    ("sizes", "count"),
    [
        # vocabulary, hidden, intermediate, layers, heads, kv heads, tied: the published models
        ((32_000, 4096, 11_008, 32, 32, 32, False), 6_738_415_616),  # llama-7b
        ((32_000, 8192, 22_016, 80, 64, 64, False), 65_285_660_672),  # llama-65b
        ((32_000, 8192, 28_672, 80, 64, 8, False), 68_976_648_192),  # llama-2-70b
        ((128_256, 2048, 8192, 16, 32, 8, True), 1_235_814_400),  # llama-3.2-1b
        ((49_152, 576, 1536, 30, 9, 3, True), 134_515_008),  # smollm2-135m
    ],
)
def test_published_parameter_counts(sizes: tuple[int, int, int, int, int, int, bool], count: int) -> None:
    vocabulary, hidden, intermediate, layers, heads, kv_heads, tied = sizes
    network = families.build(
        "llama",
        device="meta",
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_layers=layers,
        num_heads=heads,
        num_kv_heads=kv_heads,
        head_dim=hidden // heads,
        max_position_embeddings=2048,
        tie_embeddings=tied,
    )
    assert network.num_parameters() == count


def test_errors_name_what_is_wrong() -> None:
    with pytest.raises(UnsupportedError, match=r"llamma.*Did you mean 'llama'"):
        families.for_hf({"model_type": "llamma"})
    with pytest.raises(CheckpointError, match="no 'model_type'"):
        families.for_hf({})
    with pytest.raises(CheckpointError, match=r"'hidden_size' must be .* not None"):
        families.for_hf({"model_type": "llama"}).config_from_hf({"hidden_size": None, "vocab_size": 9})
    sizes = {"vocab_size": 9, "hidden_size": 8, "intermediate_size": 8, "num_layers": 1, "head_dim": 4}
    with pytest.raises(SettingError, match="3 key-value heads do not divide 4"):
        families.build("llama", **sizes, num_heads=4, num_kv_heads=3, max_position_embeddings=8)
    with pytest.raises(UnsupportedError, match=r"config\.activation.*'swish'"):
        families.build("llama", **sizes, num_heads=2, num_kv_heads=2, max_position_embeddings=8, activation="swish")
