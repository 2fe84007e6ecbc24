"""Adapted linear layers: what they compute, whom they route, and that they leave the base as it was."""

from __future__ import annotations

import math
from collections import OrderedDict

import pytest
import torch
from torch import Tensor, nn

from germinal.errors import SettingError
from germinal.layers.adapted import AdaptedLinear
from germinal.layers.adapters import (
    adapted_layers,
    adapter_parts,
    adapter_routing,
    add_adapter,
    base_state_dict,
    merge_adapter,
    network_adapters,
    remove_adapter,
    routed,
    unmerge_adapter,
)
from germinal.layers.linear import Linear, packed_weights
from germinal.layers.lora_config import LoRAConfig


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q_proj = nn.Linear(6, 10)
        self.up_proj = nn.Linear(10, 6, bias=False)

    def forward(self, hidden: Tensor) -> Tensor:
        return hidden + self.up_proj(self.q_proj(hidden).tanh())


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.ModuleList(Block() for _ in range(3))
        self.lm_head = nn.Linear(6, 4, bias=False)

    def forward(self, hidden: Tensor) -> Tensor:
        for layer in self.layers:
            hidden = layer(hidden)
        return self.lm_head(hidden)


def network_with(*names: str, config: LoRAConfig | None = None) -> Network:
    """A small network whose adapters, one for each name, do something."""
    network = Network()
    for seed, name in enumerate(names):
        parts = add_adapter(network, name, config or LoRAConfig(rank=2, target_modules=("q_proj",)), seed=seed)
        for part in parts.values():
            nn.init.normal_(part.B, generator=torch.Generator().manual_seed(seed))
    return network


def test_fresh_adapter_changes_nothing_and_keeps_names_and_parameters() -> None:
    network = Network()
    before = dict(network.named_parameters())
    hidden = torch.randn(5, 6)
    expected = network(hidden)

    parts = add_adapter(network, "film", LoRAConfig(rank=2, target_modules=("q_proj", "up_proj")))

    assert list(parts) == [f"layers.{i}.{name}" for i in range(3) for name in ("q_proj", "up_proj")]
    after = dict(network.named_parameters())
    assert all(after[name] is parameter for name, parameter in before.items())
    assert base_state_dict(network).keys() == before.keys()
    with routed(network, "film"):
        assert torch.equal(network(hidden), expected)
    assert all(part.A.abs().max() <= 1 / math.sqrt(part.A.shape[1]) and part.A.std() > 0 for part in parts.values())


@pytest.mark.parametrize(("use_rslora", "scaling"), [(False, 8 / 4), (True, 8 / 2)])
def test_update_is_scaled_b_a_x(use_rslora: bool, scaling: float) -> None:
    network = Network()
    config = LoRAConfig(rank=4, alpha=8, target_modules=("lm_head",), use_rslora=use_rslora)
    (part,) = add_adapter(network, "film", config).values()
    nn.init.normal_(part.B)
    hidden = torch.randn(2, 3, 6)
    with routed(network, "film"):
        adapted = network.lm_head(hidden)
    expected = hidden @ (network.lm_head.weight + scaling * part.B @ part.A).t()
    torch.testing.assert_close(adapted, expected)


def test_nothing_routed_is_the_plain_layer_bit_for_bit() -> None:
    network = network_with("film")
    layer = network.layers[0].q_proj
    assert isinstance(layer, AdaptedLinear)
    hidden = torch.randn(7, 6)
    assert torch.equal(layer(hidden), nn.functional.linear(hidden, layer.weight, layer.bias))


def test_tokens_of_different_adapters_share_one_pass() -> None:
    network = network_with("film", "food")
    routing = adapter_routing(network)
    hidden = torch.randn(9, 6)
    rows = {"film": torch.tensor([0, 1, 5]), "food": torch.tensor([2, 8]), None: torch.tensor([3, 4, 6, 7])}

    with routed(network, [(name, index) for name, index in rows.items() if name]):
        together = network(hidden)

    for name, index in rows.items():
        with routed(network, name):
            torch.testing.assert_close(together[index], network(hidden[index]), rtol=1e-6, atol=1e-6)
    assert not torch.allclose(together, network(hidden))
    assert routing.route is None


def test_rows_of_a_padded_batch_count_as_flat_tokens() -> None:
    network = network_with("film")
    hidden = torch.randn(2, 3, 6)
    with routed(network, [("film", torch.tensor([3, 4, 5]))]):
        together = network(hidden)
    torch.testing.assert_close(together[0], network(hidden[0]))
    with routed(network, "film"):
        torch.testing.assert_close(together[1], network(hidden[1]))


def test_gradients_reach_only_the_routed_adapters_and_equal_the_merged_weights() -> None:
    network = network_with("film", "food")
    network.requires_grad_(False)
    for name in ("film", "food"):
        for part in adapter_parts(network, name).values():
            part.requires_grad_(True)
    hidden = torch.randn(4, 6)
    with routed(network, [("film", torch.arange(4))]):
        network(hidden).square().sum().backward()
    gradients = {name: part.B.grad for name, part in adapter_parts(network, "film").items()}
    assert all(part.B.grad is None for part in adapter_parts(network, "food").values())

    network.zero_grad()
    with routed(network, "film"):
        network(hidden).square().sum().backward()
    for name, part in adapter_parts(network, "film").items():
        torch.testing.assert_close(gradients[name], part.B.grad)


def test_merge_answers_as_routed_and_unmerge_is_exact() -> None:
    network = network_with("film", "food")
    hidden = torch.randn(4, 6)
    before = {name: tensor.clone() for name, tensor in base_state_dict(network).items()}
    with routed(network, "film"):
        expected = network(hidden)

    merge_adapter(network, "film")
    torch.testing.assert_close(network(hidden), expected, rtol=1e-5, atol=1e-5)
    with routed(network, "film"):
        torch.testing.assert_close(network(hidden), expected, rtol=1e-5, atol=1e-5)
    assert base_state_dict(network).keys() == before.keys()
    with pytest.raises(SettingError, match="'film' is merged"), routed(network, "food"):
        pass
    with pytest.raises(SettingError, match="'film' is merged"):
        merge_adapter(network, "food")

    unmerge_adapter(network)
    assert all(torch.equal(tensor, before[name]) for name, tensor in base_state_dict(network).items())
    with routed(network, "food"):
        network(hidden)


def test_remove_gives_the_base_back() -> None:
    network = network_with("film", "food")
    hidden = torch.randn(4, 6)
    plain = network(hidden)
    merge_adapter(network, "film")
    remove_adapter(network, "film")
    assert torch.equal(network(hidden), plain)
    assert list(network_adapters(network)) == ["food"]
    assert list(adapted_layers(network)["layers.0.q_proj"].adapters) == ["food"]
    with pytest.raises(SettingError, match="no such adapter"), routed(network, "film"):
        pass


def test_adapter_in_float32_on_a_bfloat16_base() -> None:
    network = network_with("film").to(torch.bfloat16)
    parts = adapter_parts(network, "film")
    fresh = add_adapter(network, "food", LoRAConfig(rank=2, target_modules=("q_proj",)))
    assert {part.A.dtype for part in fresh.values()} == {torch.float32}
    assert parts.keys() == fresh.keys()
    hidden = torch.randn(4, 6, dtype=torch.bfloat16)
    with routed(network, "food"):
        assert network(hidden).dtype == torch.bfloat16


def test_dropout_acts_in_training_only() -> None:
    network = network_with("film", config=LoRAConfig(rank=2, dropout=0.5, target_modules=("q_proj",)))
    hidden = torch.randn(64, 6)
    with routed(network, "film"):
        network.train()
        assert not torch.equal(network(hidden), network(hidden))
        network.eval()
        assert torch.equal(network(hidden), network(hidden))


def test_the_same_seed_draws_the_same_adapter() -> None:
    first, second = network_with("film"), network_with("film")
    for name, part in adapter_parts(first, "film").items():
        assert torch.equal(part.A, adapter_parts(second, "film")[name].A)


def test_all_linear_leaves_the_output_head_and_layers_choose_blocks() -> None:
    assert "lm_head" not in add_adapter(Network(), "film", LoRAConfig(target_modules=("all-linear",)))
    chosen = add_adapter(Network(), "film", LoRAConfig(target_modules=("q_proj",), layers=(0, 2)))
    assert list(chosen) == ["layers.0.q_proj", "layers.2.q_proj"]


def test_adapters_stand_on_the_meta_device() -> None:
    network = Network().to("meta")
    parts = add_adapter(network, "film", LoRAConfig(rank=2, target_modules=("q_proj",)))
    assert sum(parameter.numel() for part in parts.values() for parameter in part.parameters()) == 3 * 2 * (6 + 10)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"rank": 0}, "rank"),
        ({"alpha": 0.0}, "alpha"),
        ({"alpha": math.nan}, "alpha"),
        ({"dropout": 1.0}, "dropout"),
        ({"target_modules": ()}, "target_modules"),
        ({"target_modules": "q_proj"}, "target_modules"),
        ({"layers": ()}, "layers"),
        ({"layers": (-1,)}, "layers"),
    ],
)
def test_settings_out_of_range_are_named(setting: dict[str, object], message: str) -> None:
    with pytest.raises(SettingError, match=f"^{message}: "):
        LoRAConfig(**setting)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "config", "message"),
    [
        ("film", LoRAConfig(target_modules=("q_porj",)), "Did you mean 'q_proj'"),
        ("film", LoRAConfig(target_modules=("q_proj",), layers=(3,)), "index 3"),
        ("taken", LoRAConfig(target_modules=("q_proj",)), "already"),
        ("a.b", LoRAConfig(target_modules=("q_proj",)), "without dots"),
    ],
)
def test_adapters_that_cannot_stand_are_refused(name: str, config: LoRAConfig, message: str) -> None:
    network = network_with("taken")
    with pytest.raises(SettingError, match=message):
        add_adapter(network, name, config)
    assert list(network_adapters(network)) == ["taken"]


def test_plain_containers_are_adapted_too() -> None:
    network = nn.Sequential(OrderedDict(first=nn.Linear(3, 3), second=nn.Linear(3, 3)))
    assert list(add_adapter(network, "film", LoRAConfig(target_modules=("second",)))) == ["second"]


def test_packed_weights_last_as_long_as_the_block() -> None:
    torch.manual_seed(0)
    network, rows = torch.nn.Sequential(Linear(7, 5), Linear(5, 3)), torch.randn(4, 7)
    with torch.no_grad():
        expected = network(rows)
        with packed_weights(network):
            torch.testing.assert_close(network(rows), expected)
            network[0].weight.zero_()
            torch.testing.assert_close(network(rows), expected)  # a copy, which does not follow
        assert not torch.allclose(network(rows), expected)
    assert set(network.state_dict()) == {"0.weight", "0.bias", "1.weight", "1.bias"}
