"""The safetensors format: what the library reads, or an error that names the file; nothing its header only claims."""

from __future__ import annotations

import json
import random
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load, save

from germinal.checkpoints.safetensors_file import read_safetensors
from germinal.errors import CheckpointError, GerminalError

TENSORS = {"b": torch.arange(3.0), "w": torch.arange(6.0).reshape(2, 3).bfloat16(), "none": torch.empty(0, 2)}


def parts(content: bytes) -> tuple[dict[str, Any], bytes]:
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def joined(header: str, values: bytes) -> bytes:
    return len(header).to_bytes(8, "little") + header.encode() + values


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_values_are_those_of_the_library(tmp_path: Path) -> None:
    content = save(TENSORS, metadata={"format": "pt"})
    stored, expected = read_safetensors(written(tmp_path / "model.safetensors", content)), load(content)
    assert stored.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(stored[name].load(tensor.dtype), tensor, atol=0, rtol=0)


def entry(dtype: str = "F32", shape: Any = (2,), offsets: Any = (0, 8)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


@pytest.mark.parametrize(
    "header",
    [
        {"a": entry(), "b": entry()},  # one place for two tensors
        {"a": entry(), "b": entry(offsets=(12, 20))},  # a hole
        {"a": entry(shape=(3,)), "b": entry(offsets=(8, 16))},  # more values than its place has
        {"a": entry(), "b": entry(offsets=(8, 1 << 40))},
        {"a": entry(shape=(-2,)), "b": entry(offsets=(8, 16))},
        {"a": entry(shape=(2.0,)), "b": entry(offsets=(8, 16))},
        {"a": entry(shape=None), "b": entry(offsets=(8, 16))},
        {"a": entry(dtype=7), "b": entry(offsets=(8, 16))},
        {"a": entry(offsets=(0, 8, 8)), "b": entry(offsets=(8, 16))},
        {"a": 3},
        {"a": entry()},  # values that belong to no tensor
        [],
        None,
    ],
    ids=str,
)
def test_a_header_that_the_file_does_not_bear_out(header: Any, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"model\.safetensors: is truncated or malformed"):
        read_safetensors(written(tmp_path / "model.safetensors", joined(json.dumps(header), bytes(16))))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it is too short"),
        (b"\x00\x01", "truncated"),
        ((1 << 62).to_bytes(8, "little") + b"{}", "header would have"),
        (joined('{"a": ' + "[" * 100_000, b""), "truncated"),
        (joined('{"a": 1, "a": 2}', b""), "'a' stands in it twice"),
    ],
)
def test_a_file_that_is_none(content: bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=message):
        read_safetensors(written(tmp_path / "model.safetensors", content))


@pytest.mark.parametrize("seed", range(4))
def test_damage_anywhere_is_an_error_of_the_file(seed: int, tmp_path: Path) -> None:
    whole, chance = save(TENSORS), random.Random(seed)
    length = 8 + int.from_bytes(whole[:8], "little")
    for _ in range(150):
        damaged = bytearray(whole[: chance.randrange(len(whole))] if chance.random() < 0.2 else whole)
        for place in chance.sample(range(min(length, len(damaged))), min(2, len(damaged))):
            damaged[place] = chance.choice((0, 34, 48, 57, 123, 255, chance.randrange(256)))
        path = written(tmp_path / "model.safetensors", bytes(damaged))
        with suppress(GerminalError):  # anything else is a bug
            for tensor in read_safetensors(path).values():
                tensor.load(torch.float32)
