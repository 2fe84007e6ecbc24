"""LoRA against PEFT: the same weights, the same batch, the same numbers; and folders that both of them read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from germinal.checkpoints.peft_folder import load_adapter, save_adapter
from germinal.layers.adapters import adapter_parts, add_adapter, routed
from germinal.layers.lora_config import LoRAConfig
from germinal.models.families.llama import FAMILY
from germinal.models.transformer import Transformer
from germinal.objectives.language_modelling import labelled_tokens
from germinal.training.examples import Batch, TuningExample, collate
from germinal.training.lora import answer_loss

Pair = Callable[..., tuple[Transformer, Any]]

CONFIGS = [
    LoRAConfig(),
    LoRAConfig(rank=1, alpha=1, target_modules=("o_proj",)),
    LoRAConfig(rank=3, alpha=7.5, target_modules=("q_proj", "k_proj", "v_proj", "o_proj"), use_rslora=True),
    LoRAConfig(rank=4, alpha=8, target_modules=("gate_proj", "up_proj", "down_proj"), layers=(1, 2)),
    LoRAConfig(rank=2, target_modules=("all-linear",)),
    LoRAConfig(rank=4, alpha=3, target_modules=("lm_head", "q_proj")),
]


def examples(count: int = 5) -> list[TuningExample]:
    generator = torch.Generator().manual_seed(0)

    def ids(length: int) -> tuple[int, ...]:
        return tuple(torch.randint(3, 90, (length,), generator=generator).tolist())

    return [TuningExample(ids(3 + 4 * row), ids(1 + row % 3)) for row in range(count)]


def batch() -> Batch:
    return collate(examples(), range(5), pad_id=0, device=None)


def randomise(parts: dict[str, Any], seed: int = 0) -> None:
    generator = torch.Generator().manual_seed(seed)
    for part in parts.values():
        nn.init.normal_(part.A, std=0.1, generator=generator)
        nn.init.normal_(part.B, std=0.1, generator=generator)


def with_peft(theirs: Any, folder: Path, trainable: bool = True) -> Any:
    return peft.PeftModel.from_pretrained(theirs, folder, is_trainable=trainable)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: ",".join(config.target_modules))
@pytest.mark.parametrize("tied", [False, True])
def test_forward_loss_and_gradients_equal_pefts(
    make_pair: Pair, tmp_path: Path, config: LoRAConfig, tied: bool
) -> None:
    network, theirs = make_pair(tie_word_embeddings=tied)
    randomise(add_adapter(network, "film", config))
    save_adapter(network, "film", tmp_path / "adapter", family=FAMILY)
    model = with_peft(theirs, tmp_path / "adapter")
    given = batch()

    expected = model(input_ids=given.input_ids, attention_mask=given.attention_mask, labels=given.labels)
    expected.loss.backward()
    with routed(network, "film"):
        logits = network.logits(network(given.input_ids, given.attention_mask))
        loss = answer_loss(network, given) / given.weight
        loss.backward()

    real = given.attention_mask.bool()
    torch.testing.assert_close(logits[real], expected.logits[real], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(loss, expected.loss, rtol=1e-4, atol=1e-4)
    compared = compare_gradients(network, model)
    assert compared == 2 * len(adapter_parts(network, "film"))


def compare_gradients(network: Transformer, model: Any) -> int:
    """Every adapter tensor's gradient, ours against PEFT's by the published name; how many there were."""
    theirs = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
    rules = FAMILY.hf_rules(network.config)
    for layer, part in adapter_parts(network, "film").items():
        found = rules.theirs(f"{layer}.weight")
        assert found is not None
        published = found[0].removesuffix(".weight")
        for kind, ours in (("A", part.A.grad), ("B", part.B.grad)):
            expected = theirs[f"base_model.model.{published}.lora_{kind}.default.weight"]
            assert expected.abs().max() > 1e-5
            torch.testing.assert_close(ours, expected, rtol=1e-3, atol=1e-5)
    return len(theirs)


def test_loss_in_bfloat16_is_near_pefts(make_pair: Pair, tmp_path: Path) -> None:
    network, theirs = make_pair(torch.bfloat16)
    randomise(add_adapter(network, "film", LoRAConfig()))
    save_adapter(network, "film", tmp_path / "adapter", family=FAMILY)
    model = with_peft(theirs, tmp_path / "adapter")
    given = batch()
    expected = model(input_ids=given.input_ids, attention_mask=given.attention_mask, labels=given.labels).loss
    with routed(network, "film"):
        loss = answer_loss(network, given) / given.weight
    torch.testing.assert_close(loss, expected.float(), rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("targets", [("q_proj", "v_proj"), ("lm_head",), ("lm_head", "o_proj")], ids=",".join)
def test_fifteen_updates_equal_pefts(make_pair: Pair, tmp_path: Path, targets: tuple[str, ...]) -> None:
    network, theirs = make_pair()
    parts = add_adapter(network, "film", LoRAConfig(target_modules=targets))
    save_adapter(network, "film", tmp_path / "adapter", family=FAMILY)
    model = with_peft(theirs, tmp_path / "adapter").train()
    given = batch()
    ours = torch.optim.AdamW([p for part in parts.values() for p in part.parameters()], lr=1e-2)
    other = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(15):
        expected = model(input_ids=given.input_ids, attention_mask=given.attention_mask, labels=given.labels).loss
        with routed(network, "film"):
            loss = answer_loss(network, given) / given.weight
        torch.testing.assert_close(loss, expected, rtol=1e-3, atol=1e-4)
        for optimizer, value in ((ours, loss), (other, expected)):
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
    assert loss < 0.7 * answer_loss(network, given) / given.weight


def test_an_adapter_of_ours_loads_in_peft(make_pair: Pair, tmp_path: Path) -> None:
    network, theirs = make_pair()
    randomise(add_adapter(network, "film", LoRAConfig(rank=3, alpha=5, target_modules=("v_proj", "down_proj"))))
    save_adapter(network, "film", tmp_path / "adapter", family=FAMILY, base="org/base")
    given = batch()
    model = with_peft(theirs, tmp_path / "adapter", trainable=False)
    assert model.peft_config["default"].base_model_name_or_path == "org/base"
    with torch.no_grad(), routed(network, "film"):
        ours = network.logits(network(given.input_ids))
        expected = model(input_ids=given.input_ids).logits
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(ours, network.logits(network(given.input_ids)), atol=1e-2)


@pytest.mark.parametrize(
    "settings",
    [
        {"r": 8, "lora_alpha": 16, "target_modules": ["q_proj", "v_proj"]},
        {"r": 2, "lora_alpha": 3, "target_modules": "all-linear", "use_rslora": True, "lora_dropout": 0.1},
        {"r": 4, "target_modules": r".*\.(0|2)\.mlp\.(up|down)_proj"},
        {"r": 4, "target_modules": ["k_proj", "gate_proj"], "layers_to_transform": [0, 2]},
        {"r": 4, "target_modules": ["k_proj", "o_proj"], "layers_to_transform": 1},
        {"r": 4, "target_modules": ["q_proj", "o_proj"], "exclude_modules": ["model.layers.1.self_attn.q_proj"]},
    ],
    ids=lambda settings: str(settings["target_modules"]),
)
def test_an_adapter_of_pefts_loads_in_ours(make_pair: Pair, tmp_path: Path, settings: dict[str, Any]) -> None:
    network, theirs = make_pair()
    torch.manual_seed(1)
    model = peft.get_peft_model(theirs, peft.LoraConfig(task_type="CAUSAL_LM", init_lora_weights=False, **settings))
    model.save_pretrained(tmp_path / "theirs")
    load_adapter(network, tmp_path / "theirs", "film", family=FAMILY)
    given = batch()
    with torch.no_grad(), routed(network, "film"):
        ours = network.logits(network(given.input_ids))
        expected = model.eval()(input_ids=given.input_ids).logits
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4)

    save_adapter(network, "film", tmp_path / "ours", family=FAMILY)
    assert_equal_tensors(tmp_path / "theirs", tmp_path / "ours")
    peft.PeftModel.from_pretrained(model.unload(), tmp_path / "ours")


def assert_equal_tensors(first: Path, second: Path) -> None:
    one, two = (load_file(folder / "adapter_model.safetensors") for folder in (first, second))
    assert one.keys() == two.keys()
    assert all(torch.equal(tensor, two[name]) for name, tensor in one.items())


def test_a_row_of_a_batch_with_its_adapter_is_the_row_alone(make_pair: Pair) -> None:
    network, _ = make_pair()
    for seed, name in enumerate(("film", "food")):
        randomise(add_adapter(network, name, LoRAConfig(target_modules=("q_proj", "up_proj"))), seed)
    ids: Tensor = batch().input_ids
    width = ids.shape[1]
    rows = {"film": [0, 3], "food": [2]}
    route = [(name, torch.cat([torch.arange(width) + row * width for row in chosen])) for name, chosen in rows.items()]
    with torch.no_grad():
        with routed(network, route):
            together = network(ids)
        for row in range(len(ids)):
            name = next((name for name, chosen in rows.items() if row in chosen), None)
            with routed(network, name):
                torch.testing.assert_close(together[row], network(ids[row : row + 1])[0], rtol=1e-4, atol=1e-4)


def test_the_loss_is_the_labelled_tokens_own(make_pair: Pair) -> None:
    network, theirs = make_pair()
    given = batch()
    logps = theirs(input_ids=given.input_ids, attention_mask=given.attention_mask).logits.log_softmax(-1)
    expected = 0.0
    counted = 0
    for row, example in enumerate(examples()):
        for place, token in enumerate(example.answer_ids):
            expected -= logps[row, len(example.prompt_ids) + place - 1, token].item()
            counted += 1
    assert counted == given.weight == labelled_tokens(given.labels)
    assert answer_loss(network, given).item() == pytest.approx(expected, rel=1e-4)


def test_the_folder_says_what_peft_says(make_pair: Pair, tmp_path: Path) -> None:
    network, theirs = make_pair()
    add_adapter(network, "film", LoRAConfig(layers=(0, 1)))
    save_adapter(network, "film", tmp_path / "ours", family=FAMILY)
    theirs_config = peft.LoraConfig(
        r=8, lora_alpha=16, target_modules=["q_proj", "v_proj"], layers_to_transform=[0, 1], task_type="CAUSAL_LM"
    )
    peft.get_peft_model(theirs, theirs_config).save_pretrained(tmp_path / "theirs")
    ours = json.loads((tmp_path / "ours" / "adapter_config.json").read_text())
    expected = json.loads((tmp_path / "theirs" / "adapter_config.json").read_text())
    del ours["base_model_name_or_path"]
    ours["target_modules"], expected["target_modules"] = (
        sorted(ours["target_modules"]),
        sorted(expected["target_modules"]),
    )
    assert ours == {key: expected[key] for key in ours}
