"""Vectors that go through dense layers and texts behind a prompt, against sentence-transformers; there and back."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling, Transformer
from tiny_encoders import TEXTS, save_encoder

import germinal
from germinal.errors import CheckpointError, GerminalError, SettingError, UnsupportedError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model with two dense layers and prompts, as sentence-transformers saves it."""
    torch.manual_seed(0)
    bare = tmp_path / "bare"
    bare.mkdir()
    modules = [
        Transformer(str(save_encoder(bare, "BertModel"))),
        Pooling(24, "mean"),
        Dense(24, 7),
        Dense(7, 5, bias=False, activation_function=torch.nn.Identity()),
        Normalize(),
    ]
    prompts = {"query": "I loved this: ", "passage": ""}
    peer = SentenceTransformer(modules=modules, prompts=prompts, default_prompt_name="query", device="cpu")
    peer.save(str(tmp_path / "model"))
    return tmp_path / "model"


def vectors_of(folder: Path, **options: Any) -> np.ndarray[Any, Any]:
    vectors: np.ndarray[Any, Any] = SentenceTransformer(str(folder), device="cpu").encode(TEXTS, **options)
    return vectors


def test_dense_layers_and_prompts_are_sentence_transformers(folder: Path, tmp_path: Path) -> None:
    lm = germinal.load(folder)
    by_default = vectors_of(folder)
    assert by_default.shape == (len(TEXTS), 5)
    np.testing.assert_allclose(lm.encode(TEXTS), by_default, atol=1e-5)
    np.testing.assert_allclose(lm.encode(TEXTS, prompt="query"), by_default, atol=1e-5)
    bare = vectors_of(folder, prompt="")
    assert np.abs(bare - by_default).max() > 1e-3
    np.testing.assert_allclose(lm.encode(TEXTS, prompt=""), bare, atol=1e-5)
    saved = lm.save(tmp_path / "saved")
    np.testing.assert_allclose(vectors_of(saved), by_default, atol=1e-5)
    np.testing.assert_allclose(germinal.load(saved).encode(TEXTS), by_default, atol=1e-5)


def test_a_prompt_that_the_model_has_not_is_refused(folder: Path, minilm: str) -> None:
    with pytest.raises(SettingError, match="Did you mean 'query'"):
        germinal.load(folder).encode(TEXTS, prompt="querry")
    with pytest.raises(SettingError, match="no prompt 'query'"):
        germinal.load(minilm).encode(TEXTS, prompt="query")


def shorten(folder: Path) -> None:
    save_file({"linear.weight": torch.ones(7, 23), "linear.bias": torch.ones(7)}, folder / "model.safetensors")


def lose_bias(folder: Path) -> None:
    save_file({"linear.weight": load_file(folder / "model.safetensors")["linear.weight"]}, folder / "model.safetensors")


def say(**values: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, **values}))

    return change


@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [
        (shorten, CheckpointError, r"linear.weight \[7, 23\] where \[7, 24\] is expected"),
        (lose_bias, CheckpointError, "not linear.bias, linear.weight"),
        (say(activation_function="os.system"), UnsupportedError, "os.system"),
        (say(module_output_name="other"), UnsupportedError, "module_output_name"),
    ],
)
def test_a_damaged_dense_layer_is_refused(
    folder: Path, spoil: Callable[[Path], None], error: type[GerminalError], message: str
) -> None:
    spoil(folder / "2_Dense")
    with pytest.raises(error, match=message):
        germinal.load(folder)
