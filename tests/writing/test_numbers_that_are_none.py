"""Weights whose outputs are no numbers: an error from every way to use a model, never a label, a score or a vector."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from tiny_encoders import save_encoder

import germinal
from germinal.errors import CheckpointError


def damage(folder: Path, name: str) -> Path:
    """Fill the first tensor with this in its name with NaN."""
    file = folder / "model.safetensors"
    tensors = load_file(file)
    next(tensor for key, tensor in sorted(tensors.items()) if name in key).fill_(float("nan"))
    save_file(tensors, file, metadata={"format": "pt"})
    return folder


@pytest.mark.parametrize(
    "use",
    [lambda lm: lm.generate("a", max_new_tokens=1), lambda lm: lm.score("a", ["b", "c"]), lambda lm: lm.encode(["a"])],
)
def test_a_decoder(use: Callable[[germinal.LanguageModel], object], llama_folder: Path, tmp_path: Path) -> None:
    folder = damage(Path(shutil.copytree(llama_folder, tmp_path / "model")), "norm")
    with pytest.raises(CheckpointError, match="not finite numbers"):
        use(germinal.load(str(folder)))


@pytest.mark.parametrize("name", ["embeddings.word", "classifier"])
def test_an_encoder_with_a_head(name: str, tmp_path: Path) -> None:
    lm = germinal.load(str(damage(save_encoder(tmp_path, "BertForSequenceClassification"), name)))
    with pytest.raises(CheckpointError, match="not finite numbers"):
        lm.classify("a warm film")
