"""Every dtype that a weights file can hold is read, value for value, or refused by its name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from germinal.checkpoints.stored import READ
from germinal.checkpoints.weights_files import read_file
from germinal.errors import UnsupportedError

_PARTS_OF_BYTES = re.compile(r"torch\.(q?u?int[1-7]|bits.*|q.*|.*e2m1.*)")
DTYPES = sorted(
    {
        each
        for each in vars(torch).values()
        if isinstance(each, torch.dtype) and not _PARTS_OF_BYTES.fullmatch(str(each))
    },
    key=str,
)


def zeros(dtype: torch.dtype) -> torch.Tensor:
    return torch.zeros(4, dtype.itemsize, dtype=torch.uint8).view(dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.filterwarnings("ignore:ComplexHalf")
@pytest.mark.parametrize("form", ["model.safetensors", "pytorch_model.bin"])
def test_every_dtype_is_read_or_refused_by_name(dtype: torch.dtype, form: str, tmp_path: Path) -> None:
    name = str(dtype).removeprefix("torch.")
    values = torch.tensor([1.5, -2.0]).to(dtype) if name in READ else zeros(dtype)
    save = save_file if form.endswith("safetensors") else torch.save
    try:
        save({"w": values}, tmp_path / form)
    except (KeyError, RuntimeError, ValueError):
        pytest.skip(f"the format has no {name}")
    stored = read_file(tmp_path / form)["w"]
    if name in READ:
        assert stored.precision == name
        torch.testing.assert_close(stored.load(torch.float32), torch.tensor([1.5, -2.0]), atol=0, rtol=0)
    else:
        with pytest.raises(UnsupportedError, match=rf"'w' is stored as {stored.precision};"):
            stored.load(torch.float32)
