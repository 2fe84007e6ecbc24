"""Tuning from a model folder to a PEFT folder, and through kills."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import peft
import pytest
import torch

import germinal
from germinal.errors import ContextWindowError, DataError, SettingError
from germinal.layers.adapters import network_adapters
from germinal.layers.lora_config import LoRAConfig
from germinal.training.config import TrainingConfig
from germinal.training.examples import TuningExample, encode_example
from germinal.training.lora import tune_lora
from germinal.training.run_folder import Record, read_history

sys.path.insert(0, str(Path(__file__).parent))
from tuning_run import CONFIG, LORA, examples

SCRIPT = Path(__file__).parent / "tuning_run.py"
QUICK = TrainingConfig(max_steps=2)


@pytest.fixture(scope="module")
def quiet(llama_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an unbroken run in a process of its own."""
    folder = tmp_path_factory.mktemp("quiet") / "run"
    subprocess.run([sys.executable, SCRIPT, llama_folder, folder], check=True, capture_output=True)
    return folder


def timeless(folder: Path) -> list[Record]:
    return [replace(record, seconds=0.0) for record in read_history(folder)]


def killed_after(steps: int, model: Path, folder: Path) -> None:
    """Start the run and kill it, without a warning, once it has reported `steps`."""
    command = [sys.executable, str(SCRIPT), str(model), str(folder), "0.02"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) >= steps:
                process.kill()
                break
    assert process.returncode == -9


def test_killed_twice_and_resumed_is_bitwise_the_unbroken_run(llama_folder: Path, quiet: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    for steps in (2, 8):
        killed_after(steps, llama_folder, folder)
    subprocess.run([sys.executable, SCRIPT, llama_folder, folder], check=True, capture_output=True)
    assert timeless(folder) == timeless(quiet)
    for file in ("adapter_model.safetensors", "adapter_config.json"):
        assert (folder / "adapter" / file).read_bytes() == (quiet / "adapter" / file).read_bytes()


def test_the_written_adapter_is_the_best_and_the_base_is_untouched(llama_folder: Path, tmp_path: Path) -> None:
    lm = germinal.load(str(llama_folder))
    before = {name: tensor.clone() for name, tensor in lm.network.state_dict().items()}
    prompts = [example.prompt_ids for example in examples(lm)]
    wanted = [parameter.requires_grad for parameter in lm.network.parameters()]

    lora, config = replace(LORA, dropout=0.0), replace(CONFIG, epochs=30, evaluate_every=20, save_every=100)
    adapter = tune_lora(lm, examples(lm), lora, config, tmp_path / "run")

    assert adapter == tmp_path / "run" / "adapter"
    theirs = peft.AutoPeftModelForCausalLM.from_pretrained(adapter)
    ours = germinal.load(llama_folder, adapter=adapter, precision="float32")
    ids = torch.tensor([[5, 9, 7]])
    with torch.no_grad():
        torch.testing.assert_close(ours.logits(ids), theirs(input_ids=ids).logits, rtol=1e-3, atol=1e-3)
    assert network_adapters(lm.network) == {}
    assert [parameter.requires_grad for parameter in lm.network.parameters()] == wanted
    assert not lm.network.training
    after = lm.network.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(tensor, before[name]) for name, tensor in after.items())

    history = read_history(tmp_path / "run")
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    measured = {record.step: record.validation_loss for record in history if record.validation_loss is not None}
    assert result["best_validation_loss"] == min(measured.values()) == measured[result["best_step"]]
    assert result["best_validation_loss"] < 0.1 * history[0].loss

    lm.add_adapter(adapter, "film")
    lm.adapter = "film"
    labels = [" Positive", " Negative"]
    right = 0
    for ids, example in zip(prompts, examples(lm), strict=True):
        scores = lm.score(lm.tokenizer.decode(ids), labels)
        expected = lm.tokenizer.decode(example.answer_ids)
        right += labels[scores.index(max(scores))] == expected
    assert right >= 45  # of 48, half of each label


def test_a_finished_run_gives_the_same_adapter_without_training(
    llama_folder: Path, quiet: Path, tmp_path: Path
) -> None:
    lm = germinal.load(str(llama_folder))
    before = (quiet / "adapter" / "adapter_model.safetensors").read_bytes()
    reports: list[object] = []
    tune_lora(lm, examples(lm), LORA, CONFIG, quiet, reports.append)
    assert not reports
    assert (quiet / "adapter" / "adapter_model.safetensors").read_bytes() == before


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda shown, lora, config: (shown[1:], lora, config), "examples was"),
        (lambda shown, lora, config: (shown, replace(lora, rank=5), config), "lora was"),
        (lambda shown, lora, config: (shown, lora, replace(config, seed=1)), "seed was 0, now 1"),
    ],
)
def test_another_run_in_the_same_folder_is_refused(
    llama_folder: Path,
    quiet: Path,
    change: Callable[..., tuple[list[TuningExample], LoRAConfig, TrainingConfig]],
    named: str,
) -> None:
    lm = germinal.load(str(llama_folder))
    with pytest.raises(SettingError, match=named):
        tune_lora(lm, *change(examples(lm), LORA, CONFIG), quiet)
    assert network_adapters(lm.network) == {}


def test_checkpoints_may_come_at_other_times(llama_folder: Path, quiet: Path) -> None:
    lm = germinal.load(str(llama_folder))
    tune_lora(lm, examples(lm), LORA, replace(CONFIG, save_every=1), quiet)


def test_what_cannot_be_tuned_is_refused_before_anything_is_written(llama_folder: Path, tmp_path: Path) -> None:
    lm = germinal.load(str(llama_folder))
    shown = examples(lm)[:4]
    with pytest.raises(DataError, match="no example"):
        tune_lora(lm, [], LORA, QUICK, tmp_path / "run")
    with pytest.raises(ContextWindowError, match="the model takes 256"):
        tune_lora(lm, [*shown, TuningExample((1,) * 300, (2,))], LORA, QUICK, tmp_path / "run")
    with pytest.raises(SettingError, match="Did you mean 'q_proj'"):
        tune_lora(lm, shown, LoRAConfig(target_modules=("q_porj",)), QUICK, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_every_label_is_checked_token_by_token(llama_folder: Path) -> None:
    tokenizer = germinal.load(str(llama_folder)).tokenizer
    example = encode_example(tokenizer, "Classify this review: warm. Sentiment:", " Positive")
    answer = tokenizer.encode(" Positive", add_special_tokens=False)
    prompt = tokenizer.encode("Classify this review: warm. Sentiment:")
    assert example.input_ids == (*prompt, *answer, tokenizer.eos_id)
    assert example.labels == (*[-100] * len(prompt), *answer, tokenizer.eos_id)


def test_bfloat16_learns_too(llama_folder: Path, tmp_path: Path) -> None:
    lm = germinal.load(str(llama_folder), precision="bfloat16")
    tune_lora(lm, examples(lm), replace(LORA, dropout=0.0), replace(CONFIG, epochs=4), tmp_path / "run")
    history = read_history(tmp_path / "run")
    assert history[-1].loss < 0.5 * history[0].loss
