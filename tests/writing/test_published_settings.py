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


OLD_SETTINGS = {"max_length": 26, "repetition_penalty": 1.5, "no_repeat_ngram_size": 2, "bad_words_ids": [[285], [211]]}


@pytest.mark.parametrize("settings", [OLD_SETTINGS, {"max_length": 26, "num_beams": 3, "length_penalty": 2.0}])
def test_config_json_has_the_settings_of_folders_without_the_file(folder: Path, settings: dict[str, Any]) -> None:
    """As BART's summarizers and Marian were published; beside the file they do nothing."""
    path = folder / "config.json"
    usual = json.loads(path.read_text())
    path.write_text(json.dumps({**usual, **settings, "eos_token_id": -1}))
    set_generation(folder, max_new_tokens=8, eos_token_id=-1)
    beside = ours(folder)
    assert beside == theirs(folder)
    (folder / "generation_config.json").unlink()
    answer = ours(folder)
    assert answer == theirs(folder)
    assert len(answer) > 8
    assert answer[:8] != beside
    written = germinal.load(folder, precision="float32").save(folder.parent / "written")
    assert ours(written) == theirs(written) == answer
