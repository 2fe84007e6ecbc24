"""The folder of a training run: everything needed to go on after a kill, written whole or not at all, without pickle.

    run.json                          what is being trained: a run goes on only with the settings it began with
    history.jsonl                     one line an update
    result.json                       what it came to, once it is over
    checkpoints/step-000040/
        state.json                    update count, best so far, time and tokens spent
        state.safetensors             parameters/NAME, optimizer/NAME/KEY, random/DEVICE

Two checkpoints are kept: the last, and the one with the best validation loss. A checkpoint is never replaced: a newer
one is written under its own name, then the older goes.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from germinal.errors import CheckpointError, SettingError, StorageError
from germinal.storage import atomic_folder, write_json, write_text

Parameters = Mapping[str, nn.Parameter]


@dataclass(frozen=True, slots=True)
class State:
    """How far a run has come.

    Attributes:
        step: Updates done.
        best_step, best_loss: The checkpoint with the lowest validation loss a token; None before the first evaluation.
        seconds: Time spent, over all processes that worked on the run.
        tokens: Real tokens seen, prompts included.
    """

    step: int = 0
    best_step: int | None = None
    best_loss: float | None = None
    seconds: float = 0.0
    tokens: int = 0

    def after(self, record: Record, seconds: float) -> State:
        """The state once `record` is done; of equal validation losses the first is the best."""
        state = replace(self, step=record.step, seconds=self.seconds + seconds, tokens=self.tokens + record.tokens)
        loss = record.validation_loss
        if loss is None or (self.best_loss is not None and loss >= self.best_loss):
            return state
        return replace(state, best_step=record.step, best_loss=loss)


@dataclass(frozen=True, slots=True)
class Record:
    """One line of history.jsonl: one update.

    Attributes:
        step: Counted from 1.
        epoch: Epochs begun, from 0.
        loss: Mean over the labelled tokens of the update, before it.
        learning_rate: As applied.
        grad_norm: Before clipping.
        tokens: Real tokens of the update.
        seconds: It took; the one field that may differ between two runs alike.
        validation_loss: Mean over the labelled tokens of the validation part, after the update, where it was measured.
    """

    step: int
    epoch: int
    loss: float
    learning_rate: float
    grad_norm: float
    tokens: int
    seconds: float
    validation_loss: float | None = None


class RunFolder:
    """Opens or creates the folder of a run.

    Args:
        path: Where.
        recipe: Everything that decides the result, as plain JSON values.

    Raises:
        SettingError: the folder holds a run with another recipe; the message names what differs.
        CheckpointError: the folder's files are damaged.
    """

    def __init__(self, path: Path, recipe: Mapping[str, Any]) -> None:
        self.path = path
        self._checkpoints = path / "checkpoints"
        self._history = path / "history.jsonl"
        self._check_recipe(json.loads(json.dumps(recipe)))
        for leftover in self._checkpoints.glob(".*"):  # of a process that was killed while writing
            shutil.rmtree(leftover, ignore_errors=True)

    def _check_recipe(self, recipe: dict[str, Any]) -> None:
        file = self.path / "run.json"
        if not file.exists():
            write_json(file, recipe)
            return
        found = _read_json(file)
        differing = sorted(key for key in found.keys() | recipe.keys() if found.get(key) != recipe.get(key))
        if differing:
            changes = ", ".join(f"{key} was {found.get(key)}, now {recipe.get(key)}" for key in differing)
            raise SettingError(
                f"holds a run with other settings: {changes}.",
                where=str(self.path),
                hint="Give them back, or train into another folder.",
            )

    def restore(self, parameters: Parameters, optimizer: torch.optim.Optimizer) -> State:
        """Bring parameters, optimiser and random generators to the last checkpoint, if there is one, and say which."""
        steps = self._steps()
        if not steps:
            write_text(self._history, "")
            return State()
        folder = self._folder(steps[-1])
        state = State(**_read_json(folder / "state.json"))
        tensors = _read_tensors(folder / "state.safetensors")
        _copy_parameters(tensors, parameters, folder)
        places = {name: place for place, name in enumerate(parameters)}
        moments: dict[int, dict[str, Tensor]] = {}
        for key, tensor in _under("optimizer/", tensors).items():
            name, _, moment = key.rpartition("/")
            moments.setdefault(places[name], {})[moment] = tensor
        optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
        _restore_random(_under("random/", tensors))
        lines = [json.dumps(asdict(record)) + "\n" for record in self.history() if record.step <= state.step]
        write_text(self._history, "".join(lines))
        return state

    def save(self, state: State, parameters: Parameters, optimizer: torch.optim.Optimizer) -> None:
        """Write a checkpoint, then drop those that are neither the last nor the best."""
        moments = optimizer.state_dict()["state"]
        tensors = {f"parameters/{name}": parameter.detach() for name, parameter in parameters.items()}
        for place, name in enumerate(parameters):
            for moment, tensor in moments.get(place, {}).items():
                tensors[f"optimizer/{name}/{moment}"] = tensor
        tensors |= {f"random/{device}": generator for device, generator in _random_states(parameters).items()}
        with atomic_folder(self._folder(state.step)) as folder:
            write_json(folder / "state.json", asdict(state))
            (folder / "state.safetensors").write_bytes(
                save({key: tensor.contiguous() for key, tensor in tensors.items()})
            )
        for step in self._steps():
            if step not in (state.step, state.best_step):
                shutil.rmtree(self._folder(step))

    def load_best(self, state: State, parameters: Parameters) -> None:
        """Put the parameters of the best checkpoint in place; without evaluations the last is the best."""
        if state.best_step not in (None, state.step):
            folder = self._folder(state.best_step or 0)
            _copy_parameters(_read_tensors(folder / "state.safetensors"), parameters, folder)

    def remove_checkpoints(self) -> None:
        """Free the space of a run that is over and whose result is kept elsewhere."""
        shutil.rmtree(self._checkpoints, ignore_errors=True)

    def append(self, record: Record) -> None:
        """Add a line to the history."""
        try:
            with self._history.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(record)) + "\n")
        except OSError as error:
            raise StorageError(f"cannot be written: {error.strerror}.", where=str(self._history)) from error

    def history(self) -> tuple[Record, ...]:
        """The updates so far."""
        return read_history(self.path)

    def _folder(self, step: int) -> Path:
        return self._checkpoints / f"step-{step:06d}"

    def _steps(self) -> list[int]:
        return sorted(int(folder.name.removeprefix("step-")) for folder in self._checkpoints.glob("step-*"))


def read_history(path: Path) -> tuple[Record, ...]:
    """The history of the run in folder `path`; a last line cut short by a kill is left out."""
    lines = (path / "history.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    return tuple(Record(**json.loads(line)) for line in lines if line.endswith("\n"))


def read_result(path: Path) -> dict[str, Any]:
    """What the finished run in folder `path` came to: `TrainingResult.summary`."""
    return _read_json(path / "result.json")


def _copy_parameters(tensors: Mapping[str, Tensor], parameters: Parameters, folder: Path) -> None:
    stored = _under("parameters/", tensors)
    if stored.keys() != parameters.keys():
        differing = ", ".join(sorted(stored.keys() ^ parameters.keys()))
        raise CheckpointError(f"does not hold the parameters that are trained: {differing}.", where=str(folder))
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(stored[name])


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}


def _random_states(parameters: Parameters) -> dict[str, Tensor]:
    """The state of the host's generator and of those of the devices that are trained on."""
    devices = {parameter.device for parameter in parameters.values() if parameter.device.type == "cuda"}
    return {"cpu": torch.get_rng_state()} | {
        f"cuda-{device.index}": torch.cuda.get_rng_state(device) for device in devices
    }


def _restore_random(states: Mapping[str, Tensor]) -> None:
    for device, state in states.items():
        if device == "cpu":
            torch.set_rng_state(state)
        else:
            torch.cuda.set_rng_state(state, int(device.removeprefix("cuda-")))


def _read_json(file: Path) -> dict[str, Any]:
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"cannot be read: {error}.", where=str(file), hint="Delete the folder to begin anew."
        ) from error
    if not isinstance(value, dict):
        raise CheckpointError("is not a JSON object.", where=str(file), hint="Delete the folder to begin anew.")
    return value


def _read_tensors(file: Path) -> dict[str, Tensor]:
    try:
        return load_file(file)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"cannot be read: {error}.", where=str(file), hint="Delete the folder to begin anew."
        ) from error
