"""The folder of a training run: everything needed to resume it after a kill, written atomically and without pickle.

    run.json                          the recipe: a run is resumed only with the settings it was started with
    history.jsonl                     one line per update
    result.json                       the outcome, once the run is over
    checkpoints/step-000040/
        state.json                    updates done, the best so far, time and tokens spent
        state.safetensors             parameters/NAME, optimizer/NAME/KEY, random/DEVICE

Two checkpoints are kept: the last, and the one with the best validation loss. A checkpoint is never overwritten: the
next is written under its own name before the older one is deleted.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from germinal import files
from germinal.errors import CheckpointError, SettingError, StorageError
from germinal.storage import atomic_folder, write_json, write_text

Parameters = Mapping[str, nn.Parameter]

_Numbers = TypeVar("_Numbers", "State", "Record")
_AGAIN = "Delete the folder to start again."


@dataclass(frozen=True, slots=True)
class State:
    """The progress of a run.

    Attributes:
        step: Updates done.
        best_step, best_loss: The step with the lowest validation loss, and that loss; None before the first evaluation.
        seconds: Time spent, over all processes that worked on the run.
        tokens: Real tokens seen, including prompts.
    """

    step: int = 0
    best_step: int | None = None
    best_loss: float | None = None
    seconds: float = 0.0
    tokens: int = 0

    def after(self, record: Record, seconds: float) -> State:
        """The state after an update; of equal validation losses the first is the best."""
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
        epoch: Counted from 0.
        loss: The mean loss of the update's labels, before the update.
        learning_rate: The learning rate of the update.
        grad_norm: The norm of the gradient before clipping.
        tokens: Real tokens of the update.
        seconds: The time it took, the only field that differs between equal runs.
        validation_loss: The mean loss of the validation part after the update, if it was measured.
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
    """The folder of a run, created or opened.

    Args:
        path: Its path.
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
                hint="Use the same settings, or another folder.",
            )

    def restore(self, parameters: Parameters, optimizer: torch.optim.Optimizer) -> State:
        """Restore parameters, optimiser and random generators from the last checkpoint, if any; return its state.

        Raises:
            CheckpointError: it is damaged, or holds other parameters or devices than those of this run.
        """
        steps = self._steps()
        if not steps:
            write_text(self._history, "")
            return State()
        folder = self._folder(steps[-1])
        state = _numbers(State, _read_json(folder / "state.json"), folder / "state.json")
        if state.step != steps[-1]:
            raise _damaged(folder / "state.json", f"step is {state.step}")
        tensors = _read_tensors(folder / "state.safetensors")
        _copy_parameters(tensors, parameters, folder)
        moments = _moments(_under("optimizer/", tensors), parameters, folder)
        optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
        _restore_random(_under("random/", tensors), _random_states(parameters), folder)
        lines = [json.dumps(asdict(record)) + "\n" for record in self.history() if record.step <= state.step]
        write_text(self._history, "".join(lines))
        return state

    def save(self, state: State, parameters: Parameters, optimizer: torch.optim.Optimizer) -> None:
        """Write a checkpoint, then delete those that are neither the last nor the best."""
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
        """Load the parameters of the best checkpoint; without evaluations that is the last."""
        if state.best_step not in (None, state.step):
            folder = self._folder(state.best_step or 0)
            _copy_parameters(_read_tensors(folder / "state.safetensors"), parameters, folder)

    def remove_checkpoints(self) -> None:
        """Delete the checkpoints of a finished run, whose result is kept elsewhere."""
        shutil.rmtree(self._checkpoints, ignore_errors=True)

    def append(self, record: Record) -> None:
        """Append an update to the history."""
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
        names = [folder.name.removeprefix("step-") for folder in self._checkpoints.glob("step-*")]
        return sorted(int(name) for name in names if name.isdecimal())


def read_history(path: Path) -> tuple[Record, ...]:
    """The history of the run in folder `path`, without a last line that a kill has truncated."""
    file = path / "history.jsonl"
    lines = files.read_text(file).splitlines(keepends=True)
    whole = [files.parse_json(line, where=str(file)) for line in lines if line.endswith("\n")]
    return tuple(_numbers(Record, values, file) for values in whole)


def read_result(path: Path) -> dict[str, Any]:
    """What the finished run in folder `path` came to: `TrainingResult.summary`."""
    return _read_json(path / "result.json")


def _numbers(kind: type[_Numbers], values: Any, file: Path) -> _Numbers:
    """A state or a record from its JSON object."""
    try:
        found = kind(**values)
    except TypeError as error:
        raise _damaged(file, str(error)) from error
    for name, wanted in get_type_hints(kind).items():
        if not isinstance(getattr(found, name), (wanted, int)):  # a whole number is a float too
            raise _damaged(file, f"{name} is {getattr(found, name)!r:.80}")
    return found


def _copy_parameters(tensors: Mapping[str, Tensor], parameters: Parameters, folder: Path) -> None:
    stored = _under("parameters/", tensors)
    if stored.keys() != parameters.keys():
        differing = ", ".join(sorted(stored.keys() ^ parameters.keys()))
        raise CheckpointError(f"holds other parameters than those to train: {differing}.", where=str(folder))
    for name, parameter in parameters.items():
        _check_like(stored[name], parameter, f"parameters/{name}", folder)
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(stored[name])


def _moments(stored: Mapping[str, Tensor], parameters: Parameters, folder: Path) -> dict[int, dict[str, Tensor]]:
    """What AdamW keeps of each parameter, by the parameter's place: two means, and the number of updates."""
    found: dict[int, dict[str, Tensor]] = {}
    left = set(stored)
    for place, (name, parameter) in enumerate(parameters.items()):
        like = {"step": torch.zeros(()), "exp_avg": parameter, "exp_avg_sq": parameter}
        names = {key: f"{name}/{key}" for key in like}
        if not left.isdisjoint(names.values()):
            for key, full in names.items():
                if full not in left:
                    raise _damaged(folder, f"optimizer/{full} is missing")
                _check_like(stored[full], like[key], f"optimizer/{full}", folder)
            found[place] = {key: stored[full] for key, full in names.items()}
            left -= set(names.values())
    if left:
        raise _damaged(folder, f"optimizer/{min(left)} is of no parameter")
    return found


def _check_like(tensor: Tensor, wanted: Tensor, name: str, folder: Path) -> None:
    if (tensor.shape, tensor.dtype) != (wanted.shape, wanted.dtype):
        raise _damaged(folder, f"{name} is {tensor.dtype} {tuple(tensor.shape)}")


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}


def _random_states(parameters: Parameters) -> dict[str, Tensor]:
    """The states of the CPU's random generator and of those of the parameters' devices."""
    devices = {parameter.device for parameter in parameters.values() if parameter.device.type == "cuda"}
    return {"cpu": torch.get_rng_state()} | {
        f"cuda-{device.index}": torch.cuda.get_rng_state(device) for device in devices
    }


def _restore_random(stored: Mapping[str, Tensor], current: Mapping[str, Tensor], folder: Path) -> None:
    if stored.keys() != current.keys():
        raise CheckpointError(
            f"was written on {', '.join(sorted(stored))}, and the network is on {', '.join(sorted(current))}.",
            where=str(folder),
            hint="Resume on the same device, or delete the folder to start again.",
        )
    try:
        for device, state in stored.items():
            if device == "cpu":
                torch.set_rng_state(state)
            else:
                torch.cuda.set_rng_state(state, int(device.removeprefix("cuda-")))
    except (RuntimeError, TypeError) as error:
        raise _damaged(folder, f"random/{device}: {error}") from error


def _read_json(file: Path) -> dict[str, Any]:
    try:
        return files.read_json_object(file)
    except CheckpointError as error:
        raise CheckpointError(error.what, where=error.where, hint=_AGAIN) from error


def _read_tensors(file: Path) -> dict[str, Tensor]:
    if not file.is_file():  # reading a pipe would wait for somebody to write into it
        raise CheckpointError("is missing, or not a regular file.", where=str(file), hint=_AGAIN)
    try:
        return load_file(file)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"cannot be read: {error}.", where=str(file), hint=_AGAIN) from error


def _damaged(path: Path, why: str) -> CheckpointError:
    return CheckpointError(f"is damaged: {why}.", where=str(path), hint=_AGAIN)
