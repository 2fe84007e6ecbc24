"""The loop: accumulation, schedules at work, best checkpoint, resuming, and what it refuses."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from germinal.errors import CheckpointError, SettingError, TrainingError
from germinal.progress import Progress
from germinal.training.config import TrainingConfig
from germinal.training.loop import TrainingResult, train
from germinal.training.run_folder import Record, read_history


@dataclass(frozen=True)
class Points:
    """A batch of a regression."""

    inputs: Tensor
    targets: Tensor
    rows: tuple[int, ...]

    @property
    def weight(self) -> int:
        return len(self.rows)

    num_tokens = weight


class Regression:
    """Points of a line with noise, `sizes` of them to each micro-batch."""

    def __init__(self, sizes: tuple[int, ...] = (3, 1, 4, 2, 2, 3), noise: float = 0.1) -> None:
        generator = torch.Generator().manual_seed(0)
        self.inputs = torch.randn(sum(sizes) + 4, 3, generator=generator)
        self.targets = self.inputs @ torch.tensor([1.0, -2.0, 0.5]) + noise * torch.randn(
            len(self.inputs), generator=generator
        )
        borders = [0, *torch.tensor(sizes).cumsum(0).tolist()]
        self.rows = [tuple(range(*pair)) for pair in pairwise(borders)]

    batches_per_epoch = property(lambda self: len(self.rows))

    def points(self, rows: tuple[int, ...]) -> Points:
        return Points(self.inputs[list(rows)], self.targets[list(rows)], rows)

    def epoch(self, number: int) -> list[Points]:
        return [self.points(rows) for rows in self.rows[number % 2 :] + self.rows[: number % 2]]

    def validation(self) -> list[Points]:
        return [self.points(tuple(range(len(self.inputs) - 4, len(self.inputs))))]


class NoValidation(Regression):
    def validation(self) -> list[Points]:
        return []


def network(dropout: float = 0.0) -> nn.Module:
    torch.manual_seed(7)
    return nn.Sequential(nn.Linear(3, 8), nn.LayerNorm(8), nn.Dropout(dropout), nn.Linear(8, 1))


def squared(module: nn.Module, batch: Points) -> Tensor:
    return F.mse_loss(module(batch.inputs).squeeze(-1), batch.targets, reduction="sum")


def run(
    folder: Path, config: TrainingConfig, data: Any = None, module: nn.Module | None = None, **options: Any
) -> tuple[TrainingResult, nn.Module]:
    module = network() if module is None else module
    options.setdefault("recipe", {"config": asdict(config)})
    objective = options.pop("objective", squared)
    return train(module, objective, data or Regression(), config, folder, **options), module


def timeless(history: tuple[Record, ...]) -> list[Record]:
    return [replace(record, seconds=0.0) for record in history]


def state_of(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(tensor, second[name]) for name, tensor in first.items())


def test_accumulating_is_the_big_batch_however_unevenly_it_is_cut(tmp_path: Path) -> None:
    config = TrainingConfig(epochs=4, learning_rate=0.05, max_grad_norm=0.5)
    whole, one = run(tmp_path / "whole", config, Regression((15,)))
    parts, six = run(tmp_path / "parts", replace(config, gradient_accumulation_steps=6), Regression((3, 1, 4, 2, 2, 3)))
    assert whole.steps == parts.steps == 4
    for ours, theirs in zip(parts.history, whole.history, strict=True):
        assert ours.loss == pytest.approx(theirs.loss, rel=1e-5)
        assert ours.grad_norm == pytest.approx(theirs.grad_norm, rel=1e-4)
    for name, tensor in one.state_dict().items():
        torch.testing.assert_close(six.state_dict()[name], tensor, rtol=1e-4, atol=1e-5)


def test_the_update_is_adamws_with_clipping_and_decay_of_matrices_only(tmp_path: Path) -> None:
    config = TrainingConfig(epochs=2, learning_rate=0.05, weight_decay=0.3, max_grad_norm=0.2, schedule="linear")
    data = NoValidation()
    _, trained = run(tmp_path, config, data)

    reference = network()
    matrices = [p for p in reference.parameters() if p.dim() == 2]
    others = [p for p in reference.parameters() if p.dim() == 1]
    groups = [{"params": matrices, "weight_decay": 0.3}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=0.05)
    for step, batch in enumerate([*data.epoch(0), *data.epoch(1)]):
        optimizer.zero_grad()
        (squared(reference, batch) / batch.weight).backward()
        torch.nn.utils.clip_grad_norm_(reference.parameters(), 0.2)
        for group in optimizer.param_groups:
            group["lr"] = 0.05 * (1 - step / 12)
        optimizer.step()
    for name, tensor in reference.state_dict().items():
        torch.testing.assert_close(trained.state_dict()[name], tensor, rtol=1e-4, atol=1e-5)


def test_best_checkpoint_is_what_remains_in_the_network(tmp_path: Path) -> None:
    config = TrainingConfig(epochs=6, learning_rate=0.5, evaluate_every=2, schedule="constant", max_grad_norm=None)
    result, module = run(tmp_path, config, Regression(noise=2.0))
    measured = {r.step: r.validation_loss for r in result.history if r.validation_loss is not None}
    assert list(measured) == list(range(2, 37, 2))
    assert result.best_loss == min(measured.values()) == measured[result.best_step]
    assert result.best_step < result.steps
    (points,) = Regression(noise=2.0).validation()
    module.eval()
    assert squared(module, points).item() / 4 == pytest.approx(result.best_loss, rel=1e-5)
    kept = {folder.name for folder in (tmp_path / "checkpoints").iterdir()}
    assert kept == {f"step-{result.best_step:06d}", "step-000036"}


def test_without_validation_the_last_step_is_the_best(tmp_path: Path) -> None:
    result, _ = run(tmp_path, TrainingConfig(epochs=2), NoValidation())
    assert (result.best_step, result.best_loss) == (12, None)
    assert all(record.validation_loss is None for record in result.history)


class KilledError(Exception):
    pass


def killer(after: int) -> Any:
    def reporter(progress: Progress) -> None:
        if progress.done == after:
            raise KilledError

    return reporter


@pytest.mark.parametrize("after", [1, 4, 5, 7, 11, 12, 17])
def test_stopped_and_resumed_is_bitwise_the_unbroken_run(tmp_path: Path, after: int) -> None:
    config = TrainingConfig(
        epochs=3, learning_rate=0.05, weight_decay=0.1, save_every=5, evaluate_every=4, gradient_accumulation_steps=1
    )
    quiet, module = run(tmp_path / "quiet", config, module=network(dropout=0.3))
    with pytest.raises(KilledError):
        run(tmp_path / "broken", config, module=network(dropout=0.3), reporter=killer(after))
    torch.rand(3)  # the caller's randomness is not the run's
    resumed, again = run(tmp_path / "broken", config, module=network(dropout=0.3))
    assert timeless(resumed.history) == timeless(quiet.history)
    assert (resumed.best_step, resumed.best_loss, resumed.tokens) == (quiet.best_step, quiet.best_loss, quiet.tokens)
    assert equal(state_of(again), state_of(module))


def test_a_finished_run_is_not_trained_again(tmp_path: Path) -> None:
    config = TrainingConfig(epochs=2)
    first, module = run(tmp_path, config)
    reports: list[Progress] = []
    second, again = run(tmp_path, config, reporter=reports.append)
    assert not reports
    assert second == first
    assert equal(state_of(again), state_of(module))


def test_what_a_kill_left_half_written_does_no_harm(tmp_path: Path) -> None:
    config = TrainingConfig(epochs=2, save_every=2)
    quiet, _ = run(tmp_path / "quiet", config)
    with pytest.raises(KilledError):
        run(tmp_path / "broken", config, reporter=killer(7))
    torn = tmp_path / "broken" / "checkpoints" / ".step-000008.abc.tmp"
    torn.mkdir()
    (torn / "state.safetensors").write_bytes(b"half")
    with (tmp_path / "broken" / "history.jsonl").open("a") as file:
        file.write('{"step": 8, "ep')
    resumed, _ = run(tmp_path / "broken", config)
    assert timeless(resumed.history) == timeless(quiet.history)
    assert not torn.exists()


def test_another_recipe_in_the_same_folder_is_refused_by_name(tmp_path: Path) -> None:
    run(tmp_path, TrainingConfig(), recipe={"learning_rate": 0.1, "seed": 0})
    with pytest.raises(SettingError, match=r"learning_rate was 0\.1, now 0\.2"):
        run(tmp_path, TrainingConfig(), recipe={"learning_rate": 0.2, "seed": 0})


def test_a_damaged_checkpoint_is_an_error_not_a_fresh_start(tmp_path: Path) -> None:
    run(tmp_path, TrainingConfig())
    for file in (tmp_path / "checkpoints").glob("*/state.safetensors"):
        file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="cannot be read"):
        run(tmp_path, TrainingConfig())


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("parameters/0.bias", torch.zeros(1)),  # would be broadcast
        ("parameters/0.bias", torch.zeros(8, dtype=torch.complex64)),  # would lose its imaginary part
        ("optimizer/0.bias/exp_avg", torch.zeros(3)),
        ("optimizer/0.bias/exp_avg", None),
        ("random/cpu", torch.zeros(8, dtype=torch.uint8)),
    ],
)
def test_tensors_that_are_not_the_runs_are_refused(tmp_path: Path, key: str, value: Tensor | None) -> None:
    run(tmp_path, TrainingConfig())
    for file in (tmp_path / "checkpoints").glob("*/state.safetensors"):
        tensors = load_file(file)
        del tensors[key]
        save_file(tensors if value is None else {**tensors, key: value}, file)
    with pytest.raises(CheckpointError, match=f"is damaged: {key}"):
        run(tmp_path, TrainingConfig())


@pytest.mark.parametrize("change", [{"step": "3"}, {"step": 2}, {"best_step": {}}, {"odd": 1}])
def test_a_state_that_is_not_the_runs_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    run(tmp_path, TrainingConfig())
    for file in (tmp_path / "checkpoints").glob("*/state.json"):
        file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(CheckpointError, match="is damaged") as refused:
        run(tmp_path, TrainingConfig())
    assert "Delete the folder" in str(refused.value)


def test_a_loss_that_is_not_finite_says_where(tmp_path: Path) -> None:
    def objective(module: nn.Module, batch: Points) -> Tensor:
        return squared(module, batch) * (math.nan if 8 in batch.rows else 1.0)

    with pytest.raises(TrainingError, match=r"step 2, micro-batch 2 of 2, examples \[8, 9\]: the loss is nan"):
        run(tmp_path, TrainingConfig(gradient_accumulation_steps=2), objective=objective)


def test_a_gradient_that_is_not_finite_says_where(tmp_path: Path) -> None:
    def objective(module: nn.Module, batch: Points) -> Tensor:
        return (module(batch.inputs) * 0.0).clamp(min=0).sqrt().sum()

    with pytest.raises(TrainingError, match=r"step 1: the norm of the gradient is nan"):
        run(tmp_path, TrainingConfig(), objective=objective)


def test_nothing_to_train_or_to_learn_from(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="nothing to train"):
        run(tmp_path, TrainingConfig(), module=network().requires_grad_(False))
    with pytest.raises(TrainingError, match="nothing to learn from"):
        run(tmp_path, TrainingConfig(), Regression(()))


def test_a_trained_parameter_that_the_loss_does_not_see_is_an_error(tmp_path: Path) -> None:
    module = network()
    module.register_module("aside", nn.Linear(2, 2))
    with pytest.raises(TrainingError, match=r"does not depend on aside\.weight, aside\.bias"):
        run(tmp_path, TrainingConfig(), module=module, objective=lambda module, batch: squared(module[:4], batch))


def test_frozen_parameters_stay_and_the_callers_state_comes_back(tmp_path: Path) -> None:
    module = network()
    module[0].requires_grad_(False)
    module.eval()
    before = state_of(module)
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    run(tmp_path, TrainingConfig(), module=module)
    assert torch.equal(torch.rand(1), expected)
    assert not module.training
    changed = {name for name, tensor in module.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == {"1.weight", "1.bias", "3.weight", "3.bias"}


def test_history_and_reports_tell_every_step(tmp_path: Path) -> None:
    reports: list[Progress] = []
    result, _ = run(tmp_path, TrainingConfig(epochs=2, max_steps=8), reporter=reports.append, task="tune film")
    assert [report.done for report in reports] == list(range(1, 9))
    assert {(report.task, report.total, report.unit) for report in reports} == {("tune film", 8, "steps")}
    assert [record.step for record in result.history] == list(range(1, 9))
    assert [record.epoch for record in result.history] == [0] * 6 + [1] * 2
    assert read_history(tmp_path) == result.history
    lines = (tmp_path / "history.jsonl").read_text().splitlines()
    assert json.loads(lines[0]).keys() == asdict(result.history[0]).keys()


def test_learning_lowers_the_loss(tmp_path: Path) -> None:
    result, _ = run(tmp_path, TrainingConfig(epochs=40, learning_rate=0.05, evaluate_every=240, save_every=240))
    assert result.history[-1].loss < 0.05 * result.history[0].loss


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 0}, "epochs: must be at least 1, not 0"),
        ({"max_steps": 0}, "max_steps"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"learning_rate": math.nan}, "learning_rate"),
        ({"schedule": "cosin"}, "schedule: .* Did you mean 'cosine'"),
        ({"validation_fraction": 1.0}, "validation_fraction"),
        ({"max_grad_norm": 0.0}, "max_grad_norm"),
        ({"weight_decay": -0.1}, "weight_decay"),
        ({"warmup_steps": -1}, "warmup_steps"),
        ({"adam_betas": (0.9, 1.0)}, "adam_betas"),
        ({"evaluate_every": 0}, "evaluate_every"),
        ({"save_every": 0}, "save_every"),
    ],
)
def test_settings_out_of_range_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        TrainingConfig(**settings)


def test_warmup_longer_than_the_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="warmup_steps: is 6, but the run has 6 steps"):
        run(tmp_path, TrainingConfig(warmup_steps=6))
