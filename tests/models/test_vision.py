"""The Vision Transformer against transformers', and torchvision's parameter counts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import ViTConfig, ViTForImageClassification

from germinal.errors import SettingError, UnsupportedError
from germinal.models.vision import VisionConfig, VisionTransformer, hf_rules

TINY: dict[str, Any] = {
    "image_size": 12,
    "patch_size": 4,
    "num_channels": 3,
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_layers": 2,
    "num_heads": 4,
    "num_labels": 5,
}
SHAPES: list[dict[str, Any]] = [
    {},
    {"num_channels": 1, "patch_size": 3, "num_labels": 2},
    {"hidden_size": 21, "num_heads": 3, "num_layers": 3},
    {"image_size": 10, "patch_size": 5, "activation": "relu", "norm_eps": 1e-3},
    {"patch_size": 12, "num_heads": 1, "intermediate_size": 13},  # the image is one patch
]


def pair(folder: Path, **overrides: Any) -> tuple[VisionTransformer, Any]:
    """Ours and transformers', the weights going over as the published file has them."""
    config = VisionConfig(**{**TINY, **overrides})
    torch.manual_seed(0)
    theirs = ViTForImageClassification(
        ViTConfig(
            image_size=config.image_size,
            patch_size=config.patch_size,
            num_channels=config.num_channels,
            hidden_size=config.hidden_size,
            intermediate_size=config.intermediate_size,
            num_hidden_layers=config.num_layers,
            num_attention_heads=config.num_heads,
            num_labels=config.num_labels,
            layer_norm_eps=config.norm_eps,
            hidden_act=config.activation,
        )
    ).eval()
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.15)
    ours = VisionTransformer(config, device="meta")
    ours.load_state_dict(published(theirs, folder), assign=True)
    return ours.eval(), theirs


def published(theirs: Any, folder: Path) -> dict[str, torch.Tensor]:
    """The parameters of transformers' model, as its file has them, under our names."""
    theirs.save_pretrained(folder)
    state: dict[str, torch.Tensor] = {}
    for name, tensor in load_file(folder / "model.safetensors").items():
        names, transform = hf_rules().ours(name) or pytest.fail(name)
        state.update(zip(names, transform.to_ours(tensor), strict=True))
    return state


@pytest.mark.parametrize("shape", SHAPES)
def test_hidden_states_logits_and_gradients(shape: dict[str, Any], tmp_path: Path) -> None:
    ours, theirs = pair(tmp_path, **shape)
    size = ours.config.image_size
    pixels = torch.randn(3, ours.config.num_channels, size, size)
    hidden_states = ours(pixels)
    logits, expected = ours.logits(hidden_states), theirs(pixels).logits
    torch.testing.assert_close(hidden_states, theirs.vit(pixels).last_hidden_state, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-5)

    weights = torch.randn_like(logits)
    (logits * weights).sum().backward()
    (expected * weights).sum().backward()
    for parameter in theirs.parameters():
        parameter.data = parameter.grad
    gradients = published(theirs, tmp_path)
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name], atol=1e-3, rtol=1e-3)


def test_weights_there_and_back(tmp_path: Path) -> None:
    ours, _ = pair(tmp_path)
    expected = load_file(tmp_path / "model.safetensors")
    written = dict(hf_rules().convert_to_theirs(ours.state_dict()))
    assert written.keys() == expected.keys()
    for name, tensor in written.items():
        torch.testing.assert_close(tensor, expected[name], rtol=0, atol=0)


@pytest.mark.parametrize(
    ("config", "count"),
    [
        ({}, 86_567_656),  # ViT-B/16
        ({"patch_size": 32}, 88_224_232),  # ViT-B/32
        ({"hidden_size": 1024, "intermediate_size": 4096, "num_layers": 24, "num_heads": 16}, 304_326_632),  # L/16
    ],
)
def test_published_parameter_counts(config: dict[str, int], count: int) -> None:
    assert VisionTransformer(VisionConfig(**config), device="meta").num_parameters() == count


def test_what_it_refuses() -> None:
    with pytest.raises(SettingError, match=r"config\.patch_size.*5 pixels do not divide an image of 12"):
        VisionConfig(**{**TINY, "patch_size": 5})
    with pytest.raises(SettingError, match=r"config\.num_heads"):
        VisionConfig(**{**TINY, "num_heads": 5})
    with pytest.raises(SettingError, match=r"config\.num_layers"):
        VisionConfig(**{**TINY, "num_layers": 0})
    with pytest.raises(UnsupportedError, match=r"config\.activation.*'swish'"):
        VisionConfig(**{**TINY, "activation": "swish"})
    network = VisionTransformer(VisionConfig(**TINY))
    with pytest.raises(SettingError, match=r"pixels.*\[B, 3, 12, 12\], not \[1, 3, 12, 16\]"):
        network(torch.zeros(1, 3, 12, 16))
