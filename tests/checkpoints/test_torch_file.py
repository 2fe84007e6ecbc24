"""Files of torch.save: what torch.load reads from them, or an error; never other values, and never run."""

from __future__ import annotations

import random
import warnings
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch

from germinal.checkpoints.torch_file import read_torch_file
from germinal.errors import GerminalError, UnsafeFileError, UnsupportedError

MATRIX = torch.arange(24.0).reshape(4, 6)
BASE = torch.arange(10.0)
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # that torch will not have them for long
    QUANTISED = torch.quantize_per_tensor(MATRIX, 0.1, 0, torch.qint8)


def saved(folder: Path, state: Any, *, zipped: bool = True) -> Path:
    torch.save(state, folder / "pytorch_model.bin", _use_new_zipfile_serialization=zipped)
    return folder / "pytorch_model.bin"


def rezipped(path: Path, change: Callable[[str, bytes], bytes] = lambda name, content: content, **how: Any) -> None:
    """Write the archive again, its entries changed or compressed."""
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", **how) as archive:
        for name, content in entries.items():
            archive.writestr(name, change(name, content))


STATES: dict[str, dict[str, torch.Tensor]] = {
    "parameters": {"w": torch.nn.Parameter(MATRIX), "b": torch.nn.Parameter(BASE, requires_grad=False)},
    "transposed": {"w": MATRIX.t()},
    "every second value": {"w": MATRIX[::2, 1::2]},
    "parts of one storage": dict(zip("qkv", MATRIX.chunk(3, dim=1), strict=True)),
    "twice the same": {"embedding": MATRIX, "head": MATRIX},
    "nothing in it": {"w": torch.empty(0, 3)},
    "one number": {"w": torch.tensor(2.5)},
    "other floats": {"a": BASE.bfloat16(), "b": BASE.half(), "c": BASE.double()},
    "a buffer of whole numbers beside": {"position_ids": torch.arange(5), "w": MATRIX, "mask": torch.ones(3).bool()},
}


@pytest.mark.parametrize("form", ["archive", "compressed", "before torch 1.6"])
@pytest.mark.parametrize("kind", STATES)
def test_values_are_those_of_torch(kind: str, form: str, tmp_path: Path) -> None:
    path = saved(tmp_path, STATES[kind], zipped=form != "before torch 1.6")
    if form == "compressed":
        rezipped(path, compression=zipfile.ZIP_DEFLATED)
    expected, stored = torch.load(path), read_torch_file(path)
    assert stored.keys() == expected.keys()
    for name, tensor in expected.items():
        assert stored[name].shape == tensor.shape
        if tensor.is_floating_point():
            torch.testing.assert_close(stored[name].load(tensor.dtype), tensor.data, atol=0, rtol=0)


def test_tensors_of_one_storage_do_not_change_together(tmp_path: Path) -> None:
    stored = read_torch_file(saved(tmp_path, {"embedding": MATRIX, "head": MATRIX}))
    embedding, head = (stored[name].load(torch.float32) for name in ("embedding", "head"))
    embedding.zero_()
    torch.testing.assert_close(head, MATRIX, atol=0, rtol=0)


class _Runs:
    def __reduce__(self) -> tuple[Any, ...]:
        return exec, ("raise AssertionError('it ran')",)


@pytest.mark.parametrize("zipped", [True, False], ids=["archive", "before torch 1.6"])
@pytest.mark.parametrize(
    ("state", "error", "message"),
    [
        ({"w": MATRIX.to_sparse()}, UnsupportedError, "'w' is not a plain tensor, but torch.sparse"),
        ({"w": QUANTISED}, UnsupportedError, "'w' is not a plain tensor"),
        ({"state_dict": {"w": MATRIX}, "epoch": 3}, UnsupportedError, "'state_dict' is a mapping.* by itself"),
        ({"w": MATRIX, "epoch": 3}, UnsupportedError, "'epoch' is not one"),
        ([MATRIX], UnsupportedError, "not a mapping"),
        (MATRIX, UnsupportedError, "not a mapping"),
        ({"w": _Runs()}, UnsafeFileError, r"could run code \(.*exec\)"),
        (torch.nn.Linear(2, 3), UnsafeFileError, "could run code"),
    ],
)
def test_what_is_more_than_tensors_is_refused_by_name(
    state: Any, error: type[GerminalError], message: str, zipped: bool, tmp_path: Path
) -> None:
    with pytest.raises(error, match=message):
        read_torch_file(saved(tmp_path, state, zipped=zipped))


def test_values_that_are_repeated_and_not_stored_are_refused(tmp_path: Path) -> None:
    stored = read_torch_file(saved(tmp_path, {"w": torch.ones(1).expand(1000, 1000)}))
    with pytest.raises(UnsupportedError, match="'w' repeats values"):
        stored["w"].load(torch.float32)


@pytest.mark.parametrize(
    ("entry", "change", "message"),
    [
        # In the pickle the tensor's sizes are K\x04K\x06, its strides K\x06K\x01, and its storage's size K\x18.
        ("data.pkl", lambda content: content.replace(b"K\x04K\x06", b"K\x08K\x06"), "truncated or malformed"),
        ("data.pkl", lambda content: content.replace(b"K\x18", b"K\x19"), "no storage of 100 bytes"),
        ("data.pkl", lambda content: content.replace(b"K\x06K\x01", b"K\x09K\x01"), "truncated or malformed"),
        ("data.pkl", lambda content: content[:-20], "truncated or malformed|more than tensors"),
        ("data/0", lambda content: content[:-4], "no storage of 96 bytes"),
        ("data/0", lambda content: content + bytes(8), "no storage of 96 bytes"),
    ],
)
def test_what_the_pickle_says_is_what_the_archive_has(
    entry: str, change: Callable[[bytes], bytes], message: str, tmp_path: Path
) -> None:
    path = saved(tmp_path, {"w": MATRIX})
    rezipped(path, lambda name, content: change(content) if name.endswith(entry) else content)
    with pytest.raises(GerminalError, match=message):
        read_torch_file(path)


@pytest.mark.parametrize("zipped", [True, False], ids=["archive", "before torch 1.6"])
def test_damage_anywhere_is_an_error_of_the_file_or_leaves_the_tensors_whole(zipped: bool, tmp_path: Path) -> None:
    path = saved(tmp_path, {"w": MATRIX, "b": BASE.bfloat16()}, zipped=zipped)
    whole, chance = path.read_bytes(), random.Random(0)
    for _ in range(400):
        damaged = bytearray(whole[: chance.randrange(len(whole))] if chance.random() < 0.2 else whole)
        for place in chance.sample(range(len(damaged)), min(chance.choice((1, 3)), len(damaged))):
            damaged[place] = chance.choice((0, 1, 127, 255, chance.randrange(256)))
        path.write_bytes(damaged)
        with suppress(GerminalError):  # anything else is a bug
            for tensor in read_torch_file(path).values():
                tensor.load(torch.float32)
