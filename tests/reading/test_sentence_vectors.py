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
from sentence_transformers.sentence_transformer.modules import (
    Dense,
    Dropout,
    LayerNorm,
    Normalize,
    Pooling,
    Transformer,
)
from tiny_encoders import TEXTS, save_encoder

import germinal
from germinal.errors import CheckpointError, GerminalError, GerminalWarning, SettingError, UnsupportedError


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
    np.testing.assert_allclose(lm.encode(TEXTS, prompt="passage"), bare, atol=1e-5)
    saved = lm.save(tmp_path / "saved")
    np.testing.assert_allclose(vectors_of(saved), by_default, atol=1e-5)
    np.testing.assert_allclose(germinal.load(saved).encode(TEXTS), by_default, atol=1e-5)


def test_a_prompt_that_the_model_has_not_is_refused(folder: Path, minilm: str) -> None:
    with pytest.raises(SettingError, match="Did you mean 'query'"):
        germinal.load(folder).encode(TEXTS, prompt="querry")
    with pytest.raises(SettingError, match="no prompt 'query'"):
        germinal.load(minilm).encode(TEXTS, prompt="query")


Build = Callable[..., Path]


@pytest.fixture
def build(tmp_path: Path) -> Build:
    """A model as sentence-transformers saves it, with options of its pooling, further modules and changed files."""

    def build(pooling: Any, *modules: Any, texts: dict[str, Any] | None = None, **options: Any) -> Path:
        torch.manual_seed(0)
        bare = tmp_path / "bare"
        bare.mkdir(exist_ok=True)
        parts = [Transformer(str(save_encoder(bare, "BertModel"))), pooling, *modules]
        SentenceTransformer(modules=parts, device="cpu", **options).save(str(tmp_path / "model"))
        if texts is not None:
            (tmp_path / "model" / "sentence_bert_config.json").write_text(json.dumps(texts))
        return tmp_path / "model"

    return build


def check_vectors(folder: Path, saved: Path, **options: Any) -> None:
    """The vectors are sentence-transformers', and still are after germinal has written the model."""
    expected = vectors_of(folder, **options)
    lm = germinal.load(folder)
    np.testing.assert_allclose(lm.encode(TEXTS), expected, atol=1e-5)
    written = lm.save(saved)
    np.testing.assert_allclose(vectors_of(written), expected, atol=1e-5)
    np.testing.assert_allclose(germinal.load(written).encode(TEXTS), expected, atol=1e-5)


@pytest.mark.parametrize(
    "mode",
    ["weightedmean", "mean_sqrt_len_tokens", ("cls", "max", "mean"), ("lasttoken", "weightedmean")],
)
@pytest.mark.parametrize("include_prompt", [True, False])
def test_every_pooling_is_sentence_transformers(build: Build, tmp_path: Path, mode: Any, include_prompt: bool) -> None:
    pooling = Pooling(24, mode, include_prompt=include_prompt)
    prompts = {"query": "I loved this: "}
    check_vectors(build(pooling, prompts=prompts, default_prompt_name="query"), tmp_path / "saved")


def test_flags_of_older_versions_join_vectors_in_their_own_order(build: Build, tmp_path: Path) -> None:
    folder = build(Pooling(24, "mean"))
    say(pooling_mode=None, pooling_mode_mean_tokens=True, pooling_mode_cls_token=True)(folder / "1_Pooling")
    config = json.loads((folder / "1_Pooling" / "config.json").read_text())
    del config["pooling_mode"]
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(config))
    check_vectors(folder, tmp_path / "saved")


def test_layers_come_in_the_order_of_the_modules(build: Build, tmp_path: Path) -> None:
    layers = [
        Normalize(),
        Dense(24, 24, use_residual=True),
        Dropout(0.5),
        LayerNorm(24),
        Dense(24, 6, activation_function=torch.nn.Sigmoid(), use_residual=True),
    ]
    torch.nn.init.normal_(layers[3].norm.weight)
    check_vectors(build(Pooling(24, "mean"), *layers), tmp_path / "saved")


@pytest.mark.parametrize("layers", [(), (Normalize(),)])
def test_the_first_numbers_of_a_vector_are_kept(build: Build, tmp_path: Path, layers: tuple[Any, ...]) -> None:
    folder = build(Pooling(24, "mean"), *layers, truncate_dim=8)
    assert germinal.load(folder).encode(TEXTS).shape == (len(TEXTS), 8)
    check_vectors(folder, tmp_path / "saved")
    lengths = np.linalg.norm(germinal.load(folder).encode(TEXTS, normalize=True), axis=1)
    np.testing.assert_allclose(lengths, 1, atol=1e-6)


@pytest.mark.parametrize("texts", [{"max_seq_length": 4}, {"tokenizer_args": {"model_max_length": 4}}])
def test_texts_are_cut_where_the_checkpoint_says_so_and_this_is_told(
    build: Build, tmp_path: Path, texts: dict[str, Any]
) -> None:
    folder = build(Pooling(24, "mean"), texts=texts)
    with pytest.warns(GerminalWarning, match=f"{len(TEXTS)} of {len(TEXTS)} texts were cut to 4 tokens"):
        check_vectors(folder, tmp_path / "saved")


def set_json(file: Path, **values: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


@pytest.mark.parametrize("limit", [None, 5], ids=["no max_seq_length", "max_seq_length"])
@pytest.mark.parametrize("side", ["config", "tokenizer.json"])
def test_the_tokenizers_files_say_how_long_texts_are_and_where_they_are_cut(
    build: Build, tmp_path: Path, limit: int | None, side: str
) -> None:
    folder = build(Pooling(24, "mean"), texts={"max_seq_length": limit})
    set_json(folder / "tokenizer_config.json", model_max_length=4)
    if side == "config":
        set_json(folder / "tokenizer_config.json", truncation_side="left")
    else:
        truncation = {"direction": "Left", "max_length": 7, "strategy": "LongestFirst", "stride": 0}
        set_json(folder / "tokenizer.json", truncation=truncation)
    with pytest.warns(GerminalWarning, match=f"texts were cut to {limit or 4} tokens"):
        check_vectors(folder, tmp_path / "saved")


def test_a_side_that_is_none_is_refused(build: Build) -> None:
    folder = build(Pooling(24, "mean"))
    set_json(folder / "tokenizer_config.json", truncation_side="top")
    with pytest.raises(CheckpointError, match="left or right, not 'top'"):
        germinal.load(folder)


def test_capitals_are_lost_where_the_checkpoint_says_so(build: Build, tmp_path: Path) -> None:
    texts = {"do_lower_case": True}
    folder = build(Pooling(24, "mean"), texts=texts)
    lm = germinal.load(folder)
    np.testing.assert_array_equal(lm.encode(["A WARM FILM"]), lm.encode(["a warm film"]))
    check_vectors(folder, tmp_path / "saved")


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
