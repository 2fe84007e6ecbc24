"""Weights count by content: not by name, path, packing or order."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from gguf_writing import write_gguf
from tiny_models import random_llama, small_tokenizer

from germinal.checkpoints.checkpoint import Checkpoint
from germinal.checkpoints.fingerprint import fingerprint, weights_digest
from germinal.checkpoints.formats import read
from germinal.checkpoints.hf_folder import write_folder


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GERMINAL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def of(checkpoint: Checkpoint) -> str:
    return fingerprint(checkpoint.state_dict, checkpoint.tokenizer, checkpoint.path, checkpoint.config)


@pytest.fixture
def packed(tmp_path: Path) -> Checkpoint:
    from gguf import GGMLQuantizationType

    tokenizer = small_tokenizer()
    model = random_llama(vocab_size=len(tokenizer), hidden_size=64, intermediate_size=96, num_attention_heads=4)
    write_gguf(tmp_path / "tiny.gguf", model, tokenizer, GGMLQuantizationType.Q4_1)
    return read(tmp_path / "tiny.gguf")


def convert(checkpoint: Checkpoint, folder: Path) -> Checkpoint:
    write_folder(folder, checkpoint)
    return read(folder)


def test_a_packed_file_and_the_folder_made_of_it_are_one_model(packed: Checkpoint, tmp_path: Path) -> None:
    folder = convert(packed, tmp_path / "out")
    assert of(folder) == of(packed)
    shutil.copytree(tmp_path / "out", tmp_path / "moved")
    assert of(read(tmp_path / "moved")) == of(packed)
    assert of(read(packed.path, torch.bfloat16)) != of(packed)


def test_every_part_counts(packed: Checkpoint) -> None:
    before = weights_digest(packed.state_dict)
    assert weights_digest(dict(reversed(packed.state_dict.items()))) == before
    for name in ("embed_tokens.weight", "decoder.final_norm.weight"):
        changed = {**packed.state_dict, name: packed.state_dict[name].clone()}
        changed[name].view(-1)[-1] += 1e-3
        assert weights_digest(changed) != before
    renamed = dict(packed.state_dict)
    renamed["other"] = renamed.pop("decoder.final_norm.weight")
    assert weights_digest(renamed) != before
    reshaped = {**packed.state_dict, "embed_tokens.weight": packed.state_dict["embed_tokens.weight"].view(-1, 32)}
    assert weights_digest(reshaped) != before
    state, tokenizer = packed.state_dict, packed.tokenizer
    other_base = replace(packed.config, rope_theta=5e5)
    assert fingerprint(state, tokenizer, config=packed.config) != fingerprint(state, tokenizer, config=other_base)


def test_it_is_worked_out_once_for_as_long_as_the_file_stays(
    packed: Checkpoint, own_cache: Path, tmp_path: Path
) -> None:
    first = of(packed)
    (remembered,) = (own_cache / "digests").glob("*.json")
    stamp = remembered.stat().st_mtime_ns
    assert of(read(packed.path)) == first
    assert [file.stat().st_mtime_ns for file in (own_cache / "digests").glob("*.json")] == [stamp]
    data = bytearray(packed.path.read_bytes())
    data[-1] ^= 1
    packed.path.write_bytes(data)
    assert of(read(packed.path)) != first
