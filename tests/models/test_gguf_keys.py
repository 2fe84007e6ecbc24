"""Every key that the gguf package has is accounted for, for every architecture that is read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
import transformers
from gguf.constants import Keys
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from germinal.checkpoints import gguf_metadata
from germinal.errors import CheckpointError, UnsupportedError
from germinal.layers.positions import RopeScaling, rotary_frequencies
from germinal.models.families import FAMILIES, for_gguf, gguf_keys
from germinal.models.families.gguf_format import GgufFormat

FORMS = {form.architecture: form for family in FAMILIES.values() if (form := family.gguf) is not None}
TENSORS = {
    "token_embd.weight": torch.empty(40, 16, device="meta"),
    **{f"blk.{layer}.ffn_up.weight": torch.empty(24, 16, device="meta") for layer in range(3)},
}
LLAMA: dict[str, Any] = {
    "context_length": 64,
    "embedding_length": 16,
    "feed_forward_length": 24,
    "block_count": 2,
    "attention.head_count": 4,
    "attention.layer_norm_rms_epsilon": 1e-5,
}


def keys_of(section: type) -> Iterator[str]:
    for name, value in vars(section).items():
        if isinstance(value, type):
            yield from keys_of(value)
        elif isinstance(value, str) and not name.startswith("__"):
            yield value


KEYS = sorted({key for name, section in vars(Keys).items() if isinstance(section, type) for key in keys_of(section)})


def config(**more: Any) -> Any:
    own = {name.replace("__", "."): value for name, value in more.items()}
    return for_gguf("llama").config_from_gguf(
        {f"llama.{key}": value for key, value in {**LLAMA, **own}.items()}, TENSORS
    )


@pytest.mark.parametrize("architecture", FORMS)
def test_every_key_of_an_architecture_is_accounted_for(architecture: str) -> None:
    form: GgufFormat = FORMS[architecture]
    own = [key.removeprefix("{arch}.") for key in KEYS if key.startswith("{arch}.")]
    assert len(own) > 90
    assert [key for key in own if key not in {*form.keys, *form.derived} and not gguf_keys.is_known(key)] == []
    assert form.derived.isdisjoint(form.keys)


def test_every_key_of_the_tokenizer_and_the_file_is_accounted_for() -> None:
    own = [key for key in KEYS if key.startswith(("general.", "tokenizer.", "split."))]
    tables = (gguf_metadata.READ, gguf_metadata.NEUTRAL)
    unknown = [key for key in own if not any(key in table for table in tables)]
    assert [key for key in unknown if not gguf_metadata.WITHOUT_EFFECT.fullmatch(key)] == []


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("attention.causal", False),
        ("attention.sliding_window", 16),
        ("attention.scale", 0.3),
        ("attention.clamp_kqv", 8.0),
        ("attention.max_alibi_bias", 8.0),
        ("attn_logit_softcapping", 50.0),
        ("final_logit_softcapping", 30.0),
        ("logit_scale", 0.5),
        ("embedding_scale", 12.0),
        ("residual_scale", 0.2),
        ("use_parallel_residual", True),
        ("expert_count", 8),
        ("rope.dimension_sections", [16, 24, 24, 0]),
        ("rope.scaling.type", "longrope"),
        ("rope.scaling.attn_factor", 1.2),
        ("rope.scaling.yarn_log_multiplier", 0.1),
        ("rope.scaling.alpha", 1000.0),
        ("attention.head_count_kv", [2, 1]),
        ("attention.value_length", 8),
        ("a_key_of_tomorrow", 1),
    ],
)
def test_what_would_change_the_network_is_refused_by_name(key: str, value: Any) -> None:
    with pytest.raises(UnsupportedError) as caught:
        config(**{key: value, **({"attention.key_length": 4} if "value" in key else {})})
    assert key in str(caught.value) or str(value) in str(caught.value)


def test_what_says_nothing_new_is_read() -> None:
    plain = config()
    assert plain == config(attention__causal=True, logit_scale=1.0, residual_scale=0.0, attention__scale=4**-0.5)
    assert plain == config(expert_count=0, expert_used_count=2, attention__sliding_window=64, rope__dimension_count=4)
    assert plain == config(rope__scaling__type="none", rope__scaling__factor=8.0, rope__scaling__finetuned=True)
    assert plain == config(rope__scaling__original_context_length=32, rope__scaling__yarn_beta_fast=32.0)
    assert plain == config(tensor_data_layout="Meta AI original pth", vocab_size=39)
    assert config(attention__head_count_kv=[2, 2]).num_kv_heads == 2


def test_frequencies_are_divided_by_either_name_of_the_factor() -> None:
    """In llama.cpp the type is linear unless there is one; the older name is of files before November 2023."""
    for said in ({"rope__scaling__factor": 4.0}, {"rope__scale_linear": 4.0}):
        assert config(**said).rope_scaling == RopeScaling("linear", 4.0)
        assert config(**said, rope__scaling__type="linear").rope_scaling == RopeScaling("linear", 4.0)
    assert config(rope__scaling__type="linear").rope_scaling is None


def test_yarn_is_that_of_transformers() -> None:
    """ggml multiplies queries and keys by 1 + 0.1 ln(factor) besides the file's own factor."""
    said = {"rope__scaling__type": "yarn", "rope__scaling__factor": 4.0, "rope__scaling__original_context_length": 16}
    parameters = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16, "rope_theta": 1e4}
    peer = transformers.LlamaConfig(
        hidden_size=16, num_attention_heads=4, max_position_embeddings=64, rope_parameters=parameters
    )
    frequencies, attention = ROPE_INIT_FUNCTIONS["yarn"](peer, torch.device("cpu"))
    ours = config(**said).rope_scaling
    torch.testing.assert_close(rotary_frequencies(4, 1e4, ours), frequencies)
    assert ours.attention_factor == pytest.approx(attention)
    assert config(**said, rope__scaling__attn_factor=0.5).rope_scaling.attention_factor == pytest.approx(attention / 2)
    assert config(**{**said, "rope__scaling__factor": 1.0}).rope_scaling is None


@pytest.mark.parametrize("factor", [-1.0, float("nan"), float("inf"), "4"])
def test_a_factor_that_is_none_is_damage(factor: Any) -> None:
    with pytest.raises(CheckpointError, match=r"rope\.scaling\.factor: must be a positive number"):
        config(rope__scaling__factor=factor)


def test_rotary_divisors_beside_a_factor_contradict_it() -> None:
    divisors = {**TENSORS, "rope_freqs.weight": torch.full((2,), 8.0)}
    more = {f"llama.{key}": value for key, value in {**LLAMA, "rope.scaling.factor": 2.0}.items()}
    with pytest.raises(UnsupportedError, match=r"which rope\.scaling\.factor divides as well"):
        for_gguf("llama").config_from_gguf(more, divisors)
    with pytest.raises(CheckpointError, match="one for each pair of a head"):
        for_gguf("llama").config_from_gguf(
            more | {"llama.rope.scaling.factor": 1.0}, divisors | {"rope_freqs.weight": torch.ones(3)}
        )


def test_layers_without_tensors_are_not_counted_out() -> None:
    with pytest.raises(CheckpointError, match=r"llama\.block_count: is 4294967295, but there are 4 tensors"):
        config(block_count=2**32 - 1)
