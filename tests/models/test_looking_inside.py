"""What is seen inside a network, against transformers: attention weights, states, positions; and the plane of words."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from test_families import CONFIGS, peer
from tiny_models import ours_from, random_llama
from torch import Tensor

from germinal.errors import ContextWindowError, SettingError, UnsupportedError
from germinal.layers.attention import CapturedAttention, PaddedView, attend
from germinal.models import families
from germinal.models.inspection import logit_lens, plane, position_tables, trace

SEEN = [
    ("Bert", "ForMaskedLM"),
    ("Roberta", "ForMaskedLM"),
    ("DistilBert", "ForMaskedLM"),
    ("GPT2", "LMHeadModel"),
    ("Bloom", "ForCausalLM"),
    ("Mistral", "ForCausalLM"),
    ("Qwen2", "ForCausalLM"),
    ("Qwen3", "ForCausalLM"),
    ("Gemma3", "ForCausalLM"),
    ("T5", "ForConditionalGeneration"),
    ("Bart", "ForConditionalGeneration"),
    ("Marian", "MTModel"),
    ("Llama", "ForCausalLM"),
]


def pair(family: str, ending: str) -> tuple[Any, Any]:
    """A random model of transformers, and ours with its weights."""
    if family == "Llama":
        theirs = random_llama()
    else:
        config = next(config for name, config in CONFIGS[family] if name == ending)
        theirs = peer(family, ending, config)
    return theirs, ours_from(theirs)


def sequences(network: Any) -> tuple[list[int], list[int] | None]:
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(3, 61, (13,), generator=generator).tolist()
    written = torch.randint(3, 61, (9,), generator=generator).tolist()
    return ids, written if network.config.stacks == "encoder-decoder" else None


def expected_output(theirs: Any, ids: list[int], written: list[int] | None) -> Any:
    inputs = {"input_ids": torch.tensor([ids])}
    if written is not None:
        inputs["decoder_input_ids"] = torch.tensor([written])
    with torch.inference_mode():
        return theirs(**inputs, output_attentions=True, output_hidden_states=True)


@pytest.mark.parametrize(("family", "ending"), SEEN)
def test_weights_states_and_lens_are_those_of_transformers(family: str, ending: str) -> None:
    theirs, ours = pair(family, ending)
    ids, written = sequences(ours)
    output = expected_output(theirs, ids, written)
    found = trace(ours, ids, written)
    maps = found.attention
    if written is not None:
        expected = {
            "encoder": output.encoder_attentions,
            "decoder": output.decoder_attentions,
            "cross": output.cross_attentions,
        }
        states = output.decoder_hidden_states
    else:
        expected = {ours.config.stacks: output.attentions}
        states = output.hidden_states
    for name in ("encoder", "decoder", "cross"):
        each = getattr(maps, name)
        if name not in expected:
            assert each is None
            continue
        torch.testing.assert_close(each.weights, torch.stack(expected[name], 1)[0], atol=1e-5, rtol=1e-4)
        assert each.query_ids == tuple(ids if name == "encoder" or written is None else written)
        assert each.key_ids == tuple(written if name == "decoder" and written is not None else ids)
    # transformers norms the last of the states that it gives out; the others are as they leave their layers.
    torch.testing.assert_close(found.states[:-1], torch.cat(states[:-1]), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found.hidden_states, states[-1][0], atol=1e-4, rtol=1e-4)
    *early, last = logit_lens(ours, found.states)
    assert len(early) == ours.config.num_layers
    torch.testing.assert_close(last, output.logits[0], atol=1e-3, rtol=1e-3)


def test_a_look_changes_nothing() -> None:
    _, ours = pair("Llama", "ForCausalLM")
    ids, _ = sequences(ours)
    with torch.inference_mode():
        plain = ours(torch.tensor([ids]))[0]
    torch.testing.assert_close(trace(ours, ids).hidden_states, plain, atol=1e-5, rtol=1e-4)
    assert not any(module._forward_hooks for module in ours.modules())


def masks() -> dict[str, Tensor | None]:
    visible = torch.ones(7, 7, dtype=torch.bool).tril()
    nothing = visible.clone()
    nothing[3] = False
    slopes = torch.tensor([0.5, 0.25, 0.1, 0.0])[:, None, None] * torch.arange(7)
    return {
        "none": None,
        "causal": None,
        "bool": visible[None, None],
        "a row that sees nothing": nothing[None, None],
        "bias": slopes[None].masked_fill(~visible, torch.finfo(torch.float32).min),
    }


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", masks())
def test_captured_attention_is_the_fused_one(name: str, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = ((2, 4, 7, 6), (2, 2, 7, 6), (2, 2, 7, 6))
    query, key, value = (torch.randn(shape, generator=generator).to(dtype) for shape in shapes)
    mask = masks()[name]
    if mask is not None and mask.dtype != torch.bool:
        mask = mask.to(dtype)
    settings: dict[str, Any] = {"scale": 0.4, "mask": mask, "causal": name == "causal"}
    kept: list[Tensor] = []
    with torch.inference_mode():
        fused = attend(query, key, value, **settings)
        written_out = attend(query, key, value, **settings, capture=kept)
    assert written_out.dtype == dtype
    tolerance = 1e-5 if dtype == torch.float32 else 3e-2
    torch.testing.assert_close(written_out, fused, atol=tolerance, rtol=tolerance)
    sums = kept[0].sum(-1)
    expected = torch.ones_like(sums)
    if name == "a row that sees nothing":
        expected[:, :, 3] = 0
    torch.testing.assert_close(sums, expected)


@pytest.mark.parametrize(("family", "ending"), [("Llama", "ForCausalLM"), ("Bert", "ForMaskedLM"), ("Bart", "")])
def test_a_padded_batch_gives_each_sequence_its_own_weights(family: str, ending: str) -> None:
    _, ours = pair(family, ending or "ForConditionalGeneration")
    ids, _ = sequences(ours)
    short = ids[:8]
    batch = torch.tensor([ids, short + [0] * 5])
    mask = (torch.arange(13) < torch.tensor([[13], [8]])).long()
    stack = "encode" if ours.encoder is not None and ours.decoder is not None else "hidden_states"
    causal = ours.encoder is None
    alone, together = CapturedAttention(), CapturedAttention()
    with torch.inference_mode():
        getattr(ours, stack)(torch.tensor([short]), PaddedView(torch.tensor([short]), causal=causal, capture=alone))
        getattr(ours, stack)(batch, PaddedView(batch, mask, causal=causal, capture=together))
    for one, both in zip(alone.self_attention, together.self_attention, strict=True):
        torch.testing.assert_close(both[1, :, :8, :8], one[0], atol=1e-5, rtol=1e-4)
        assert not both[1, :, :8, 8:].any()


@pytest.mark.parametrize(
    ("family", "given", "written", "error"),
    [
        ("Llama", [5], [5], SettingError),
        ("Bart", [5], None, SettingError),
        ("Llama", [], None, SettingError),
        ("Bart", [5], [], SettingError),
        ("GPT2", [5] * 49, None, ContextWindowError),
    ],
)
def test_what_cannot_be_looked_at(family: str, given: list[int], written: list[int] | None, error: type) -> None:
    ending = {"Llama": "ForCausalLM", "GPT2": "LMHeadModel"}.get(family, "ForConditionalGeneration")
    with pytest.raises(error):
        trace(pair(family, ending)[1], given, written)


def test_a_classifier_has_no_words_to_look_at() -> None:
    _, ours = pair("Bert", "ForSequenceClassification")
    states = trace(ours, [5, 6]).states
    with pytest.raises(UnsupportedError):
        next(logit_lens(ours, states))


# Positions


def test_rotary_angles_grow_with_the_position() -> None:
    _, ours = pair("Llama", "ForCausalLM")
    (table,) = position_tables(ours, 20)
    assert (table.kind, table.stack, table.layers) == ("rotation", "decoder", (0, 1, 2))
    frequencies = 10_000.0 ** -(torch.arange(0, 8, 2) / 8)
    angles = torch.arange(20)[:, None] * frequencies
    torch.testing.assert_close(table.values.cos(), angles.cos(), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(table.values.sin(), angles.sin(), atol=1e-5, rtol=1e-4)


def test_windowed_layers_turn_at_their_own_speed() -> None:
    _, ours = pair("Gemma3", "ForCausalLM")
    tables = position_tables(ours, 8)
    assert sorted(layer for table in tables for layer in table.layers) == list(range(7))
    assert len(tables) == 2


def test_learned_positions_are_the_rows_of_their_table() -> None:
    theirs, ours = pair("GPT2", "LMHeadModel")
    (table,) = position_tables(ours, 999)
    assert table.kind == "added"
    torch.testing.assert_close(table.values, theirs.transformer.wpe.weight.detach())


def test_sinusoids_are_those_of_the_paper() -> None:
    network = families.build(
        "transformer", vocab_size=11, hidden_size=6, intermediate_size=8, num_layers=1, num_heads=1, num_kv_heads=1,
        head_dim=6, max_position_embeddings=30,
    )  # fmt: skip
    tables = position_tables(network, 10)
    assert [(table.kind, table.stack) for table in tables] == [("added", "encoder"), ("added", "decoder")]
    for position in (0, 1, 9):
        for pair_of in range(3):
            angle = position / 10_000 ** (2 * pair_of / 6)
            row = tables[0].values[position]
            assert row[2 * pair_of] == pytest.approx(math.sin(angle), abs=1e-6)
            assert row[2 * pair_of + 1] == pytest.approx(math.cos(angle), abs=1e-6)


def test_alibi_falls_with_the_distance() -> None:
    _, ours = pair("Bloom", "ForCausalLM")
    (table,) = position_tables(ours, 6)
    assert (table.kind, table.first) == ("bias", -5)
    slopes = torch.tensor([2.0 ** -(2 * (head + 1)) for head in range(4)])  # the paper's, for four heads
    torch.testing.assert_close(table.values, slopes[:, None] * torch.arange(-5, 1))


def test_bucketed_biases_are_those_of_transformers() -> None:
    theirs, ours = pair("T5", "ForConditionalGeneration")
    encoder, decoder = position_tables(ours, 12)
    assert (encoder.stack, encoder.first, encoder.values.shape[1]) == ("encoder", -11, 23)
    assert (decoder.stack, decoder.first, decoder.values.shape[1]) == ("decoder", -11, 12)
    for table, stack, length in ((encoder, theirs.encoder, 23), (decoder, theirs.decoder, 12)):
        bias = stack.block[0].layer[0].SelfAttention.compute_bias(length, length)[0, :, 11].detach()
        torch.testing.assert_close(table.values, bias - bias[:, 11:12], atol=1e-6, rtol=1e-5)


# The plane of words


def test_the_plane_is_that_of_principal_components() -> None:
    vectors = torch.randn(9, 20, generator=torch.Generator().manual_seed(3)).double()
    found = plane(vectors)
    expected = PCA(2).fit(vectors.numpy())
    np.testing.assert_allclose(found.places.abs(), np.abs(expected.transform(vectors.numpy())), atol=1e-5)
    np.testing.assert_allclose(found.explained, expected.explained_variance_ratio_, rtol=1e-6)


def test_angles_are_those_of_the_whole_space() -> None:
    vectors = torch.tensor([[1.0, 0, 0], [0, 2, 0], [1, 1, 0], [-3, 0, 0], [1, 1e-4, 0]])
    degrees = plane(vectors).degrees
    assert degrees[0].tolist() == pytest.approx([0, 90, 45, 180, math.degrees(1e-4)], rel=1e-4, abs=1e-6)
    torch.testing.assert_close(degrees, degrees.T)


@pytest.mark.parametrize("vectors", [torch.ones(3, 4), torch.randn(2, 5), torch.zeros(2, 3), torch.randn(1, 1)])
def test_a_plane_of_too_little_is_still_a_plane(vectors: Tensor) -> None:
    found = plane(vectors)
    assert found.places.shape == (len(vectors), 2)
    assert torch.isfinite(found.places).all()
    assert torch.isfinite(found.degrees).all()
