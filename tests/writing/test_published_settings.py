"""generation_config.json and what is generated: the same tokens as transformers' from the same folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import germinal
from germinal.errors import ContextWindowError

PROMPT = "Classify this review: I loved this movie!"


@pytest.fixture
def folder(llama_folder: Path, tmp_path: Path) -> Path:
    return shutil.copytree(llama_folder, tmp_path / "model")


def set_generation(folder: Path, **values: Any) -> None:
    (folder / "generation_config.json").write_text(json.dumps({"pad_token_id": 0, **values}))


def theirs(folder: Path, **settings: Any) -> list[int]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    ids = AutoTokenizer.from_pretrained(folder)(PROMPT, return_tensors="pt").input_ids
    with torch.inference_mode():
        found = AutoModelForCausalLM.from_pretrained(folder).generate(ids, **settings)
    return list(found[0, ids.shape[1] :].tolist())


def ours(folder: Path, **settings: Any) -> list[int]:
    return list(germinal.load(str(folder), precision="float32", device="cpu").generate(PROMPT, **settings).token_ids)


@pytest.mark.parametrize(
    ("values", "settings"),
    [
        ({"max_length": 24, "eos_token_id": -1}, {}),
        ({"max_length": 24, "max_new_tokens": 7, "eos_token_id": -1}, {}),
        ({"max_length": 24, "eos_token_id": -1}, {"max_new_tokens": 30}),
        ({"max_new_tokens": 9, "eos_token_id": 99_999}, {}),
    ],
    ids=["max_length", "both", "a call's own", "an end beyond the vocabulary"],
)
def test_lengths_and_ends_are_transformers(folder: Path, values: dict[str, Any], settings: dict[str, Any]) -> None:
    set_generation(folder, **values)
    assert ours(folder, **settings) == theirs(folder, **settings)


def test_a_prompt_as_long_as_max_length_is_refused(folder: Path) -> None:
    set_generation(folder, max_length=5)
    with pytest.raises(ContextWindowError, match="max_length, which counts it, is 5") as caught:
        ours(folder)
    assert "max_new_tokens" in str(caught.value.hint)
    assert ours(folder, max_new_tokens=3)
