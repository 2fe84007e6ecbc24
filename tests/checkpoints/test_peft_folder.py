"""PEFT folders that are not what they should be: each refused by name, and the network left as it was.

That good ones are read and written as PEFT does is shown in tests/training/test_lora_parity.py.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from germinal.checkpoints.peft_folder import adapter_digest, load_adapter, save_adapter
from germinal.errors import (
    CheckpointError,
    GerminalError,
    ModelNotFoundError,
    SettingError,
    UnsafeFileError,
    UnsupportedError,
)
from germinal.layers.adapters import adapted_layers, adapter_parts, add_adapter, network_adapters, remove_adapter
from germinal.layers.lora_config import LoRAConfig
from germinal.models.families import build
from germinal.models.families.llama import FAMILY
from germinal.models.transformer import Transformer


def make_network(**overrides: Any) -> Transformer:
    torch.manual_seed(0)
    sizes = {"vocab_size": 50, "hidden_size": 16, "intermediate_size": 24, "num_layers": 2, "num_heads": 4}
    return build("llama", **{**sizes, "num_kv_heads": 2, "head_dim": 4, "max_position_embeddings": 64, **overrides})


@pytest.fixture
def network() -> Transformer:
    return make_network()


@pytest.fixture
def folder(network: Transformer, tmp_path: Path) -> Path:
    """A good adapter of q and v, rank 3."""
    for part in add_adapter(network, "film", LoRAConfig(rank=3, alpha=6)).values():
        nn.init.normal_(part.B)
    save_adapter(network, "film", tmp_path / "adapter", family=FAMILY)
    remove_adapter(network, "film")
    return tmp_path / "adapter"


def edit_config(folder: Path, **settings: Any) -> None:
    file = folder / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **settings}))


def edit_tensors(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    file = folder / "adapter_model.safetensors"
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file)


def refused(network: Transformer, folder: Path, error: type[GerminalError], message: str) -> None:
    before = set(adapted_layers(network))
    with pytest.raises(error, match=message):
        load_adapter(network, folder, "film", family=FAMILY)
    assert network_adapters(network) == {}
    assert set(adapted_layers(network)) == before


@pytest.mark.parametrize(
    "settings",
    [
        {"layer_replication": [[0, 1]]},
        {"target_parameters": ["mlp.experts"]},
        {"use_qalora": True},
        {"megatron_config": {"sizes": 1}},
        {"alora_invocation_tokens": [1, 2]},
        {"init_lora_weights": "pissa"},
        {"init_lora_weights": "loftq"},
        {"a_setting_of_next_year": 7},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_what_is_not_known_is_refused_by_its_setting(
    network: Transformer, folder: Path, settings: dict[str, Any]
) -> None:
    edit_config(folder, **settings)
    refused(network, folder, UnsupportedError, f"'{next(iter(settings))}' is ")


def test_another_method_is_refused_by_name(network: Transformer, folder: Path) -> None:
    edit_config(folder, peft_type="LOHA")
    refused(network, folder, UnsupportedError, "is a LOHA adapter")


def test_missing_and_extra_tensors_are_listed(network: Transformer, folder: Path) -> None:
    name = "base_model.model.model.layers.1.self_attn.q_proj.lora_A.weight"
    edit_tensors(folder, lambda tensors: tensors.pop(name))
    refused(network, folder, CheckpointError, f"lacks {name}")
    edit_tensors(folder, lambda tensors: tensors.update({name: torch.zeros(3, 16), "surplus": torch.zeros(1)}))
    refused(network, folder, CheckpointError, "do not: surplus")


def test_misshapen_tensors_are_named_with_both_shapes(network: Transformer, folder: Path) -> None:
    name = "base_model.model.model.layers.1.self_attn.v_proj.lora_B.weight"
    edit_tensors(folder, lambda tensors: tensors.update({name: torch.zeros(9, 3)}))
    refused(network, folder, CheckpointError, rf"{name} has the shape \[9, 3\]; .* require \[8, 3\]")


def test_a_rank_that_contradicts_the_tensors(network: Transformer, folder: Path) -> None:
    edit_config(folder, r=4)
    refused(network, folder, CheckpointError, r"has the shape \[3, 16\]; .* require \[4, 16\]")


def test_an_adapter_of_another_base(folder: Path) -> None:
    refused(make_network(hidden_size=24, head_dim=6), folder, CheckpointError, "another base model")
    refused(make_network(num_layers=1), folder, CheckpointError, "has tensors that its config and the model do not")
    refused(make_network(num_layers=3), folder, CheckpointError, "lacks")


def test_layers_that_the_model_does_not_have(network: Transformer, folder: Path) -> None:
    edit_config(folder, target_modules=["c_attn"])
    refused(network, folder, CheckpointError, "adapts .*c_attn.*, which the model does not have")


@pytest.mark.parametrize("size", [0, 7, 200])
def test_truncated_weights(network: Transformer, folder: Path, size: int) -> None:
    file = folder / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:size])
    refused(network, folder, CheckpointError, "truncated or malformed")


def test_a_pickle_is_read_only_if_it_holds_nothing_but_tensors(network: Transformer, folder: Path) -> None:
    tensors = load_file(folder / "adapter_model.safetensors")
    (folder / "adapter_model.safetensors").unlink()
    refused(network, folder, ModelNotFoundError, "has no adapter_model.safetensors")
    torch.save({**tensors, "code": nn.Linear(2, 2)}, folder / "adapter_model.bin")
    refused(network, folder, UnsafeFileError, "is a pickle")
    torch.save(tensors, folder / "adapter_model.bin")
    load_adapter(network, folder, "film", family=FAMILY)
    assert all(part.A.abs().sum() > 0 for part in adapter_parts(network, "film").values())


def test_no_adapter_there(network: Transformer, tmp_path: Path) -> None:
    refused(network, tmp_path, ModelNotFoundError, "has no adapter_config.json")


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"peft_type": "LORA"}', '{"peft_type": "LORA", "r": "x", "lora_alpha": 1}']
)
def test_a_config_that_is_none(network: Transformer, folder: Path, text: str) -> None:
    (folder / "adapter_config.json").write_text(text)
    refused(network, folder, CheckpointError, "adapter_config.json")


def test_a_name_that_is_taken(network: Transformer, folder: Path) -> None:
    load_adapter(network, folder, "film", family=FAMILY)
    with pytest.raises(SettingError, match="already"):
        load_adapter(network, folder, "film", family=FAMILY)
    load_adapter(network, folder, "food", family=FAMILY)
    assert list(network_adapters(network)) == ["film", "food"]


def test_saved_again_it_is_the_same_bytes(network: Transformer, folder: Path, tmp_path: Path) -> None:
    load_adapter(network, folder, "film", family=FAMILY)
    save_adapter(network, "film", tmp_path / "again", family=FAMILY)
    for file in ("adapter_config.json", "adapter_model.safetensors"):
        assert (tmp_path / "again" / file).read_bytes() == (folder / file).read_bytes()


def test_layers_that_no_short_name_picks_out_are_named_in_full(network: Transformer, tmp_path: Path) -> None:
    chosen = ["decoder.layers.0.self_attention.q_proj", "decoder.layers.1.self_attention.v_proj"]
    add_adapter(network, "film", LoRAConfig(), layers=chosen)
    save_adapter(network, "film", tmp_path / "adapter", family=FAMILY)
    other = make_network()
    load_adapter(other, tmp_path / "adapter", "film", family=FAMILY)
    assert list(adapted_layers(other)) == chosen


def test_digest_counts_what_the_adapter_does_and_nothing_else(folder: Path) -> None:
    digest = adapter_digest(folder)
    edit_config(folder, base_model_name_or_path="elsewhere", lora_dropout=0.5)
    assert adapter_digest(folder) == digest
    edit_config(folder, lora_alpha=7)
    assert adapter_digest(folder) != digest
    edit_config(folder, lora_alpha=6)
    edit_tensors(folder, lambda tensors: next(iter(tensors.values())).add_(1))
    assert adapter_digest(folder) != digest


@pytest.mark.parametrize(
    "settings",
    [
        {"alpha_pattern": {"q_proj": 7}},
        {"rank_pattern": {"q_proj": 3}, "use_rslora": True},
        {"use_dora": True},
        {"bias": "all"},
        {"modules_to_save": ["norm"]},
        {"trainable_token_indices": [3]},
        {"ensure_weight_tying": True},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_the_digest_counts_every_setting_that_has_an_effect(folder: Path, settings: dict[str, Any]) -> None:
    before = adapter_digest(folder)
    edit_config(folder, **settings)
    assert adapter_digest(folder) != before


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("r", 10**9),
        ("r", 2**80),
        ("r", 3.5),
        ("r", True),
        ("lora_alpha", float("nan")),
        ("lora_alpha", "6"),
        ("use_rslora", "yes"),
        ("use_dora", 1),
        ("bias", ["none"]),
        ("target_modules", [1, 2]),
        ("target_modules", {"q_proj": 1}),
        ("target_modules", None),
        ("target_modules", "(a+)+$"),
        ("target_modules", "("),
        ("exclude_modules", [["q_proj"]]),
        ("layers_to_transform", ["0"]),
        ("layers_to_transform", [-1]),
        ("layers_pattern", [3]),
        ("rank_pattern", ["q_proj"]),
        ("rank_pattern", {"q_proj": 10**9}),
        ("rank_pattern", {"(": 3}),
        ("alpha_pattern", {"q_proj": None}),
        ("modules_to_save", "lm_head"),
        ("trainable_token_indices", [50]),
        ("trainable_token_indices", [3, 3]),
        ("trainable_token_indices", {"embed_tokens": "3"}),
        ("init_lora_weights", ["gaussian"]),
        ("peft_type", ["LORA"]),
    ],
    ids=str,
)
def test_a_value_of_the_wrong_type_or_size_is_an_error_of_the_file(
    network: Transformer, folder: Path, key: str, value: object
) -> None:
    edit_config(folder, **{key: value})
    refused(network, folder, GerminalError, "adapter_")


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.bool, torch.int64, torch.complex64])
def test_only_floating_point_tensors_are_read(network: Transformer, folder: Path, dtype: torch.dtype) -> None:
    edit_tensors(folder, lambda tensors: tensors.update({name: each.to(dtype) for name, each in tensors.items()}))
    refused(network, folder, UnsupportedError, "is stored as")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_adapters_of_other_precisions_are_read(network: Transformer, folder: Path, dtype: torch.dtype) -> None:
    edit_tensors(folder, lambda tensors: tensors.update({name: each.to(dtype) for name, each in tensors.items()}))
    load_adapter(network, folder, "film", family=FAMILY)
    assert {part.A.dtype for part in adapter_parts(network, "film").values()} == {torch.float32}


def test_names_of_a_state_dict_and_of_a_class_without_a_head(network: Transformer, folder: Path) -> None:
    def renamed(tensors: dict[str, torch.Tensor]) -> None:
        for name in list(tensors):
            plain = name.replace("base_model.model.model.", "base_model.model.").replace(".weight", ".default.weight")
            tensors[plain] = tensors.pop(name)

    load_adapter(network, folder, "film", family=FAMILY)
    edit_tensors(folder, renamed)
    load_adapter(network, folder, "again", family=FAMILY)
    for name, part in adapter_parts(network, "film").items():
        assert torch.equal(adapter_parts(network, "again")[name].A, part.A)
