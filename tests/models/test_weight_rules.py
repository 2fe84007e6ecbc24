"""Transforms of weights: there and back for any sizes, and fused projections as transformers' own models read them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from fused_families import FUSED, PHI3, falcon, phi3
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from tiny_models import ours_from, small_tokenizer
from torch import Tensor

import germinal
from germinal.checkpoints.cards import ModelCard
from germinal.checkpoints.checkpoint import Checkpoint
from germinal.checkpoints.hf_folder import write_folder
from germinal.errors import CheckpointError
from germinal.models import families
from germinal.models.weight_rules import PermuteRotary, Split, Squeeze, Transform, Transpose, WeightRule, WeightRules
from germinal.text.tokenizer import Tokenizer

SIZE = st.integers(1, 4)


@st.composite
def splits(draw: st.DrawFn) -> tuple[Transform, list[int]]:
    groups, inner, transposed = draw(SIZE), draw(SIZE), draw(st.booleans())
    sizes = tuple(groups * share for share in draw(st.lists(SIZE, min_size=1, max_size=4)))
    shape = [sum(sizes), inner]
    return Split(sizes, groups, transposed), shape[::-1] if transposed else shape


@st.composite
def split_biases(draw: st.DrawFn) -> tuple[Transform, list[int]]:
    transform, _ = draw(splits())
    assert isinstance(transform, Split)
    return transform, [sum(transform.sizes)]


@st.composite
def permutations(draw: st.DrawFn) -> tuple[Transform, list[int]]:
    heads, pairs = draw(SIZE), draw(SIZE)
    return PermuteRotary(heads), [heads * pairs * 2, *draw(st.lists(SIZE, max_size=1))]


@st.composite
def matrices(draw: st.DrawFn) -> tuple[Transform, list[int]]:
    return Transpose(), [draw(SIZE), draw(SIZE)]


@st.composite
def rows(draw: st.DrawFn) -> tuple[Transform, list[int]]:
    return Squeeze(), [1, *draw(st.lists(SIZE, min_size=1, max_size=2))]


@given(st.one_of(splits(), split_biases(), permutations(), matrices(), rows()))
def test_there_and_back(case: tuple[Transform, list[int]]) -> None:
    transform, shape = case
    published = torch.randn(shape)
    ours = transform.to_ours(published)
    assert all(tensor.is_contiguous() for tensor in ours)
    again = transform.to_theirs(*ours)
    assert torch.equal(again, published)
    assert again.is_contiguous()
    assert sorted(torch.cat([tensor.flatten() for tensor in ours]).tolist()) == sorted(published.flatten().tolist())


@pytest.mark.parametrize(
    ("groups", "rows"),
    [
        (1, ["q0", "q1", "q2", "q3", "k0", "k1", "v0", "v1"]),
        (2, ["q0", "q1", "k0", "v0", "q2", "q3", "k1", "v1"]),
    ],
)
def test_which_rows_are_whose(groups: int, rows: list[str]) -> None:
    """H = 4 heads share K = 2 keys and values, of one row each: all together, and by key-value head."""
    parts = Split((4, 2, 2), groups).to_ours(torch.arange(8))
    named = [[rows[number] for number in part.tolist()] for part in parts]
    assert named == [["q0", "q1", "q2", "q3"], ["k0", "k1"], ["v0", "v1"]]


@pytest.mark.parametrize("shape", [[9, 3], [7], [16, 2, 2]])
def test_rows_that_do_not_fit(shape: list[int]) -> None:
    with pytest.raises(CheckpointError, match=rf"has {shape[0]} rows where 4 \+ 2 \+ 2 are expected"):
        Split((4, 2, 2)).to_ours(torch.zeros(shape))


def test_parts_that_do_not_fit_are_not_written() -> None:
    names = ("layers.{i}.q.weight", "layers.{i}.k.weight")
    rules = WeightRules([WeightRule("blocks.{i}.qk.weight", names, Split((4, 2)))])
    with pytest.raises(CheckpointError, match=r"blocks.3.qk.weight: .* 4 \+ 4 rows where 4 \+ 2 are expected"):
        dict(rules.convert_to_theirs({f"layers.3.{part}.weight": torch.zeros(4, 5) for part in "qk"}))


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    for each in FUSED:
        monkeypatch.setitem(families.FAMILIES, each.name, each)


@pytest.mark.parametrize("kv_heads", [1, 2, 3, 6])
@pytest.mark.parametrize("bias", [False, True])
@torch.no_grad()
def test_logits_are_those_of_transformers(kv_heads: int, bias: bool) -> None:
    ids = torch.randint(0, 64, (2, 13))
    for theirs in (phi3(num_key_value_heads=kv_heads), falcon(num_kv_heads=kv_heads, bias=bias)):
        network = ours_from(theirs)
        assert network.config.num_kv_heads == kv_heads
        logits = network.logits(network(ids))
        torch.testing.assert_close(logits, theirs(ids).logits, atol=1e-5, rtol=1e-5)


def written(folder: Path, theirs: Any) -> dict[str, Tensor]:
    """The weights of a Phi-3 of transformers, after our network wrote them as a folder."""
    network = ours_from(theirs)
    small_tokenizer().save_pretrained(folder / "tokenizer")
    checkpoint = Checkpoint(
        config=network.config,
        family=PHI3,
        state_dict=network.state_dict(),
        tokenizer=Tokenizer.from_folder(folder / "tokenizer"),
        card=ModelCard(name="fused"),
    )
    write_folder(folder / "model", checkpoint)
    return load_file(folder / "model" / "model.safetensors")


@torch.no_grad()
def test_a_folder_with_fewer_keys_than_queries_is_read_back(tmp_path: Path) -> None:
    theirs = phi3(vocab_size=512, num_key_value_heads=2)
    published = written(tmp_path, theirs)
    expected = theirs.state_dict()
    assert published.keys() == expected.keys()
    assert all(torch.equal(published[name], expected[name]) for name in expected)
    lm = germinal.load(tmp_path / "model")
    ids = torch.randint(0, 400, (2, 13))
    torch.testing.assert_close(lm.logits(ids), theirs(ids).logits, atol=1e-5, rtol=1e-5)
    again = type(theirs).from_pretrained(tmp_path / "model")
    torch.testing.assert_close(again(ids).logits, theirs(ids).logits)


def test_rows_that_do_not_fit_are_refused_by_name_and_sizes(tmp_path: Path) -> None:
    published = written(tmp_path, phi3(vocab_size=512, num_key_value_heads=2))
    name = "model.layers.1.self_attn.qkv_proj.weight"
    published[name] = published[name][:-8].contiguous()
    save_file(published, tmp_path / "model" / "model.safetensors")
    sizes = rf"{name} \[72, 48\] where \[48, 48\] \+ \[16, 48\] \+ \[16, 48\] is expected"
    with pytest.raises(CheckpointError, match=sizes):
        germinal.load(tmp_path / "model")
