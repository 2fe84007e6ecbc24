"""LoRA on layers that are published fused, against PEFT: what was trained apart is one adapter there, and the same."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from fused_families import FUSED, falcon, phi3
from tiny_models import ours_from
from torch import Tensor, nn

from germinal.checkpoints.lora_layers import published_layers
from germinal.checkpoints.peft_folder import load_adapter, save_adapter
from germinal.layers.adapters import add_adapter, routed
from germinal.layers.lora_config import LoRAConfig
from germinal.models import families
from germinal.models.families import FAMILIES, Family
from germinal.models.transformer import Transformer

sys.path.insert(0, str(Path(__file__).parent.parent / "generation"))
from generative_models import random_model

IDS = torch.arange(2 * 11).reshape(2, 11) % 50 + 3
MODELS = {
    "gpt2": lambda: random_model("gpt2"),
    "bloom": lambda: random_model("bloom"),
    "phi3": lambda: phi3(num_key_value_heads=2),
    "falcon": lambda: falcon(num_kv_heads=2),
}
TARGETS = [("q_proj", "v_proj"), ("k_proj",), ("q_proj", "k_proj", "v_proj", "o_proj"), ("all-linear",)]


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    for each in FUSED:
        monkeypatch.setitem(families.FAMILIES, each.name, each)


def randomise(parameters: list[tuple[str, Tensor]]) -> None:
    generator = torch.Generator().manual_seed(0)
    for _, parameter in parameters:
        nn.init.normal_(parameter, std=0.2, generator=generator)


@torch.no_grad()
def logits(network: Transformer) -> Tensor:
    with routed(network, "film"):
        return network.logits(network(IDS))


@torch.no_grad()
def peers_logits(model: Any) -> Tensor:
    found: Tensor = model.eval()(input_ids=IDS).logits
    return found


@pytest.mark.parametrize("use_rslora", [False, True])
@pytest.mark.parametrize("targets", TARGETS, ids=",".join)
@pytest.mark.parametrize("name", MODELS)
def test_an_adapter_of_ours_is_the_same_in_peft_and_when_read_back(
    name: str, targets: tuple[str, ...], use_rslora: bool, tmp_path: Path
) -> None:
    theirs = MODELS[name]()
    family, network, plain = FAMILIES[name], ours_from(theirs), peers_logits(theirs)
    config = LoRAConfig(rank=3, alpha=5, target_modules=targets, use_rslora=use_rslora)
    parts = add_adapter(network, "film", config)
    randomise([pair for part in parts.values() for pair in part.named_parameters()])
    save_adapter(network, "film", tmp_path / "adapter", family=family)
    expected = logits(network)
    assert (expected - plain).abs().max() > 0.01

    again = ours_from(theirs)
    load_adapter(again, tmp_path / "adapter", "film", family=family)
    torch.testing.assert_close(logits(again), expected, atol=1e-5, rtol=1e-4)
    save_adapter(again, "film", tmp_path / "again", family=family)
    for file in ("adapter_config.json", "adapter_model.safetensors"):
        assert (tmp_path / "again" / file).read_bytes() == (tmp_path / "adapter" / file).read_bytes()

    model = peft.PeftModel.from_pretrained(theirs, tmp_path / "adapter")
    torch.testing.assert_close(peers_logits(model), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "targets"),
    [
        ("gpt2", ["c_attn", "c_proj"]),
        ("bloom", ["query_key_value"]),
        ("phi3", ["qkv_proj", "gate_up_proj"]),
        ("falcon", ["query_key_value", "dense"]),
    ],
)
def test_an_adapter_of_pefts_is_the_same_here_and_keeps_its_rank(name: str, targets: list[str], tmp_path: Path) -> None:
    theirs = MODELS[name]()
    network = ours_from(theirs)
    config = peft.LoraConfig(r=3, lora_alpha=5, target_modules=targets, fan_in_fan_out=name == "gpt2")
    model = peft.get_peft_model(theirs, config)
    randomise([(key, value) for key, value in model.named_parameters() if "lora_" in key])
    model.save_pretrained(tmp_path / "adapter")
    load_adapter(network, tmp_path / "adapter", "film", family=FAMILIES[name])
    torch.testing.assert_close(logits(network), peers_logits(model), atol=1e-4, rtol=1e-4)
    save_adapter(network, "film", tmp_path / "again", family=FAMILIES[name])
    assert json.loads((tmp_path / "again" / "adapter_config.json").read_text())["r"] == 3


@pytest.mark.parametrize("family", FAMILIES.values(), ids=lambda family: family.name)
def test_every_layer_that_can_be_adapted_is_published_once(family: Family) -> None:
    sizes = {"vocab_size": 50, "hidden_size": 16, "intermediate_size": 24, "num_layers": 2, "num_heads": 4}
    network = families.build(family.name, **sizes, max_position_embeddings=32)
    adaptable = [name for name, each in network.named_modules() if isinstance(each, nn.Linear | nn.Embedding)]
    layers = published_layers(network, family)
    assert sorted(name for layer in layers for name in layer.ours) == sorted(adaptable)
    assert len({layer.name for layer in layers}) == len(layers)
