"""Unpacking equals the gguf package's, for every type that it unpacks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize as by_package

from germinal.checkpoints.dequantize import dequantize
from germinal.errors import UnsupportedError


def random_blocks(kind: GGMLQuantizationType, rows: int, columns: int) -> np.ndarray[Any, Any]:
    """Random bits; float16 scales among them may be infinite or not a number, which must come out the same too."""
    block, size = GGML_QUANT_SIZES[kind]
    return np.random.default_rng(kind.value).integers(0, 256, (rows, columns // block * size), dtype=np.uint8)


def unpackable() -> list[GGMLQuantizationType]:
    kinds = []
    for kind in GGMLQuantizationType:
        try:
            with np.errstate(all="ignore"):
                by_package(random_blocks(kind, 1, 256), kind)
        except (NotImplementedError, KeyError):
            continue
        kinds.append(kind)
    return kinds


@pytest.mark.parametrize("kind", unpackable(), ids=lambda kind: kind.name)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_every_type_equals_the_package(kind: GGMLQuantizationType) -> None:
    rows, columns = 301, 512  # more than one piece, the last one not full
    packed = random_blocks(kind, rows, columns)
    if kind in (GGMLQuantizationType.F32, GGMLQuantizationType.F16):
        packed = packed.view(np.float32 if kind is GGMLQuantizationType.F32 else np.float16)
    expected = torch.from_numpy(np.asarray(by_package(packed, kind), np.float32).copy()).view(rows, columns)
    found = dequantize(packed.view(np.uint8).reshape(-1), kind, (rows, columns), torch.float32)
    assert torch.equal(found.view(torch.int32), expected.view(torch.int32))
    halved = dequantize(packed.view(np.uint8).reshape(-1), kind, (rows, columns), torch.bfloat16)
    finite = expected.isfinite()
    assert torch.equal(halved[finite], expected.bfloat16()[finite])


def test_the_types_are_all_of_the_kinds_that_files_are_published_in() -> None:
    names = {kind.name for kind in unpackable()}
    assert names >= {"Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "BF16", "MXFP4"}
    assert names >= {"IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S", "IQ4_NL", "IQ4_XS"}
    assert names >= {"TQ1_0", "TQ2_0", "NVFP4"}


def test_a_type_that_nobody_unpacks_is_refused_by_name() -> None:
    kind = next(kind for kind in GGMLQuantizationType if kind.name == "Q8_K")
    with pytest.raises(UnsupportedError, match="Q8_K"):
        dequantize(random_blocks(kind, 1, 256).reshape(-1), kind, (1, 256), torch.float32)
