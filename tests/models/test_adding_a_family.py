"""docs/adding-a-family.md, followed to the letter: the family is written, registered, trained, saved, loaded, tuned."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import small_tokenizer

from germinal.checkpoints.peft_folder import load_adapter, save_adapter
from germinal.errors import CheckpointError, SettingError, UnsupportedError
from germinal.layers.adapters import add_adapter, routed
from germinal.layers.lora_config import LoRAConfig
from germinal.models import families
from germinal.models.config import TransformerConfig
from germinal.models.families import FAMILIES, Family
from germinal.text.tokenizer import Tokenizer

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "adding-a-family.md").read_text(encoding="utf-8")
FILE, *PROGRAM = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the page's code leaves behind."""
    monkeypatch.setattr(families, "FAMILIES", dict(FAMILIES))
    small_tokenizer().save_pretrained(tmp_path / "tokenizer")
    tokenizer = Tokenizer.from_folder(tmp_path / "tokenizer")
    names: dict[str, Any] = {"__name__": "willow", "tokenizer": tokenizer, "folder": tmp_path / "willow-tiny"}
    for block in (FILE, *PROGRAM):
        exec(compile(block, "docs/adding-a-family.md", "exec"), names)
    return names


def test_the_family_is_one_short_file() -> None:
    assert len(FILE.rstrip().splitlines()) < 62


def test_one_step_of_training_helps(followed: dict[str, Any]) -> None:
    before, after = followed["losses"]
    assert after < before


@torch.no_grad()
def test_loaded_is_saved(followed: dict[str, Any]) -> None:
    network, lm = followed["network"], followed["lm"]
    assert lm.config == network.config
    ids = torch.randint(0, 400, (2, 17))
    torch.testing.assert_close(lm.logits(ids), network.logits(network(ids)), atol=1e-5, rtol=1e-5)
    assert len(followed["answer"].token_ids) == 8


def test_what_stands_in_the_folder_is_the_familys_own(followed: dict[str, Any]) -> None:
    from safetensors.torch import load_file

    published = load_file(followed["folder"] / "model.safetensors")
    assert tuple(published["blocks.1.attention.qkv.weight"].shape) == ((6 + 2 + 2) * 8, 48)
    assert tuple(published["blocks.1.mlp.gate_up.weight"].shape) == (2 * 96, 48)
    assert "norm.weight" in published
    assert not [name for name in published if "proj" in name]


@torch.no_grad()
def test_an_adapter_is_saved_and_loaded(followed: dict[str, Any], tmp_path: Path) -> None:
    network, lm = followed["network"], followed["lm"]
    for part in add_adapter(network, "film", LoRAConfig(rank=2)).values():
        torch.nn.init.normal_(part.B)
    save_adapter(network, "film", tmp_path / "adapter", family=followed["FAMILY"])
    load_adapter(lm.network, tmp_path / "adapter", "film", family=followed["FAMILY"])
    ids = torch.randint(0, 400, (2, 17))
    with routed(network, "film"), routed(lm.network, "film"):
        torch.testing.assert_close(lm.network(ids), network(ids), atol=1e-4, rtol=1e-4)


def test_it_is_refused_by_name_when_it_does_not_fit(followed: dict[str, Any]) -> None:
    family = followed["FAMILY"]
    with pytest.raises(UnsupportedError, match="bias=True"):
        family.config_from_hf({**family.config_to_hf(followed["network"].config), "bias": True})
    with pytest.raises(CheckpointError, match="no 'width'"):
        family.config_from_hf({"vocab_size": 9})
    with pytest.raises(SettingError, match=r"a willow needs hidden_size, .*num_heads"):
        families.build("willow", vocab_size=9)
    with pytest.raises(SettingError, match=r"hidden_sizes.*Did you mean 'hidden_size'"):
        families.build("willow", hidden_sizes=9)
    sizes = {"vocab_size": 9, "hidden_size": 10, "intermediate_size": 8, "num_layers": 1, "max_position_embeddings": 8}
    with pytest.raises(SettingError, match=r"3 heads do not divide a width of 10.*head_dim"):
        families.build("willow", **sizes, num_heads=3)


def test_the_page_names_fields_and_files_that_exist() -> None:
    axes = {field.name for field in fields(TransformerConfig)}
    table = PAGE.split("| question |")[1].split("\n\n")[0]
    named = {name for row in table.splitlines()[2:] for name in re.findall(r"`(\w+)`", row.split("|")[2])}
    assert len(named) > 15
    assert named <= axes
    for path in re.findall(r"`((?:tests|src)/[\w/]+\.py)`", PAGE):
        assert (ROOT / path).exists() or path.endswith("willow.py"), path


@pytest.mark.parametrize("family", FAMILIES.values(), ids=lambda family: family.name)
def test_every_family_can_be_built_from_its_sizes_alone(family: Family) -> None:
    """What follows from the sizes is worked out: heads, and scales by the width."""
    sizes = {"vocab_size": 50, "hidden_size": 16, "intermediate_size": 24, "num_layers": 2, "num_heads": 4}
    config = families.build(family.name, **sizes, max_position_embeddings=32).config
    assert config.head_dim == 4
    assert family.config_from_hf(family.config_to_hf(config)).embedding_scale == config.embedding_scale


def insert(path: Path, after: str, line: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert after in text
    path.write_text(text.replace(after, f"{after}    {line}\n"), encoding="utf-8")


@pytest.mark.slow
def test_in_the_package_it_breaks_no_test_that_asks_for_families(tmp_path: Path) -> None:
    """Section 3 followed in a copy of the repository: what the page does not name need not be changed."""
    for part in ("src", "tests", "docs", "examples"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / file, tmp_path)
    folder = tmp_path / "src" / "germinal" / "models" / "families"
    (folder / "willow.py").write_text(FILE, encoding="utf-8")
    insert(folder / "__init__.py", "    transformer,\n", "willow,")  # once among the imports, once in _MODULES
    (size,) = re.findall(r"^    (\*_sizes\(.*\),)$", PAGE, re.MULTILINE)
    insert(folder / "sizes.py", "SIZES: tuple[Size, ...] = (\n", size)
    asking = [str(path) for path in (tmp_path / "tests").rglob("test_*.py") if "FAMILIES" in path.read_text("utf-8")]
    assert len(asking) > 8
    command = [sys.executable, "-m", "pytest", "-q", "-m", "not slow", *sorted(asking)]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "src")}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
