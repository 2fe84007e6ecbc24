"""The training loop. The objective computes the loss, the data gives the batches, and the run folder survives a kill;
all else is here, to be read from top to bottom.

An update's gradient is d/dθ (sum of losses) / (sum of weights) over all its micro-batches. Weights are counted before
the first backward pass, so that accumulation gives exactly the gradient of one big batch, however unevenly the labelled
tokens are spread.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from germinal.errors import TrainingError, listed
from germinal.progress import Progress, Reporter, silent
from germinal.training.config import TrainingConfig
from germinal.training.interfaces import Batches, Objective, TrainingBatch, TrainingData
from germinal.training.run_folder import Parameters, Record, RunFolder
from germinal.training.schedules import learning_rate_factor


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """The outcome of a run. The network has the parameters of `best_step`.

    Attributes:
        steps: The number of updates.
        best_step, best_loss: The step with the lowest validation loss, and that loss; without a validation part the
            last step and None.
        history: One record per update.
        tokens: Real tokens seen.
        seconds: Time spent, including evaluation, over all processes that worked on the run.
    """

    steps: int
    best_step: int
    best_loss: float | None
    history: tuple[Record, ...]
    tokens: int
    seconds: float

    @property
    def tokens_per_second(self) -> float:
        """Real tokens per second of updates; the time of evaluation and checkpoints does not count."""
        return self.tokens / max(sum(record.seconds for record in self.history), 1e-9)

    def summary(self) -> dict[str, float | int | None]:
        """The contents of `result.json` in a run's folder."""
        return {
            "steps": self.steps,
            "best_step": self.best_step,
            "best_validation_loss": self.best_loss,
            "tokens": self.tokens,
            "seconds": round(self.seconds, 3),
            "tokens_per_second": round(self.tokens_per_second, 1),
        }


def train(
    network: nn.Module,
    objective: Objective,
    data: TrainingData[TrainingBatch],
    config: TrainingConfig,
    folder: Path,
    reporter: Reporter = silent,
    *,
    recipe: Mapping[str, Any],
    task: str = "train",
) -> TrainingResult:
    """Train the parameters of `network` that require a gradient, and leave the best ones in it.

    The run can be killed at any moment. Called again with the same arguments, it resumes, with the same results bit for
    bit as without the interruption.

    Args:
        network: Trained in place.
        objective: The summed loss of a batch.
        data: The micro-batches.
        config: The settings.
        folder: The run's folder; see `germinal.training.run_folder`.
        reporter: Called after every update.
        recipe: Everything that decides the result; a folder with another recipe is refused.
        task: The task's name for the reporter.

    Raises:
        TrainingError: a loss or gradient is not finite, there is nothing to train or to learn from, or the loss does
            not depend on a trained parameter.
        SettingError: the folder holds another run, or the warm-up is as long as the run.
    """
    loop = _Loop(network, objective, data, config)
    run = RunFolder(folder, recipe)
    with _training_mode(network), _own_randomness(config.seed):
        state = run.restore(loop.parameters, loop.optimizer)
        for step in range(state.step, loop.total_steps):
            started = time.perf_counter()
            record = loop.update(step)
            if loop.evaluates_after(step):
                record = replace(record, validation_loss=loop.evaluate(step))
            state = state.after(record, time.perf_counter() - started)
            run.append(record)
            if loop.saves_after(step):
                run.save(state, loop.parameters, loop.optimizer)
            reporter(Progress(task, state.step, loop.total_steps, "steps", f"loss {record.loss:.3f}"))
        run.load_best(state, loop.parameters)
    best_step = state.step if state.best_step is None else state.best_step
    return TrainingResult(state.step, best_step, state.best_loss, run.history(), state.tokens, state.seconds)


class _Loop:
    """The steps of the loop: an update, an evaluation, and when evaluations and checkpoints are due."""

    def __init__(
        self, network: nn.Module, objective: Objective, data: TrainingData[TrainingBatch], config: TrainingConfig
    ) -> None:
        self.network = network
        self.objective = objective
        self.data = data
        self.config = config
        trained = [(name, parameter) for name, parameter in network.named_parameters() if parameter.requires_grad]
        if not trained or not data.batches_per_epoch:
            raise TrainingError("there is nothing to train." if not trained else "there is nothing to learn from.")
        self.parameters: Parameters = dict(sorted(trained, key=lambda item: item[1].dim() < 2))  # matrices first
        self.optimizer = _adamw(self.parameters, config)
        self.updates_per_epoch = -(-data.batches_per_epoch // config.gradient_accumulation_steps)
        self.total_steps = config.total_steps(self.updates_per_epoch)
        self.warmup_steps = config.warmup(self.total_steps)
        self.validation = data.validation()
        self.epoch = -1
        self.batches: Batches[TrainingBatch]

    def update(self, step: int) -> Record:
        """Update number `step`, counted from 0."""
        started = time.perf_counter()
        epoch, place = divmod(step, self.updates_per_epoch)
        if epoch != self.epoch:
            self.epoch, self.batches = epoch, self.data.epoch(epoch)
        first, size = place * self.config.gradient_accumulation_steps, self.config.gradient_accumulation_steps
        group = [self.batches[place] for place in range(first, min(first + size, len(self.batches)))]
        factor = learning_rate_factor(self.config.schedule, step, self.warmup_steps, self.total_steps)
        for options in self.optimizer.param_groups:
            options["lr"] = self.config.learning_rate * factor

        loss = self._backward(group, step)
        self._check_gradients()
        grad_norm = self._clip(step)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

        tokens, seconds = sum(batch.num_tokens for batch in group), time.perf_counter() - started
        return Record(step + 1, epoch, loss, self.config.learning_rate * factor, grad_norm, tokens, seconds)

    def _backward(self, group: list[TrainingBatch], step: int) -> float:
        """Accumulate the gradient of an update in the parameters, and return its mean loss."""
        weight = max(sum(batch.weight for batch in group), 1)
        loss = 0.0
        for place, batch in enumerate(group):
            mean = self.objective(self.network, batch) / weight
            where = f"step {step + 1}, micro-batch {place + 1} of {len(group)}, examples {list(batch.rows)}"
            loss += _finite(mean.item(), "loss", where)
            mean.backward()  # type: ignore[no-untyped-call]
        return loss

    def _check_gradients(self) -> None:
        """Refuse to train what the loss does not depend on: it would keep its values, and nothing would say so."""
        idle = [name for name, parameter in self.parameters.items() if parameter.grad is None]
        if idle:
            raise TrainingError(
                f"the loss does not depend on {listed(idle)}.",
                where="trained parameters",
                hint="Train other layers, or freeze these.",
            )

    def _clip(self, step: int) -> float:
        """Clip the gradient to `max_grad_norm`, and return its norm before."""
        longest = math.inf if self.config.max_grad_norm is None else self.config.max_grad_norm
        norm = nn.utils.clip_grad_norm_(self.parameters.values(), longest).item()
        return _finite(norm, "norm of the gradient", f"step {step + 1}")

    def evaluates_after(self, step: int) -> bool:
        """Whether update `step` is followed by an evaluation."""
        every = self.config.evaluate_every or -(-self.updates_per_epoch // 2)
        return len(self.validation) > 0 and ((step + 1) % every == 0 or step + 1 == self.total_steps)

    def saves_after(self, step: int) -> bool:
        """Whether update `step` is followed by a checkpoint: every evaluated one is, since it may be the best."""
        return self.evaluates_after(step) or (step + 1) % self.config.save_every == 0 or step + 1 == self.total_steps

    @torch.no_grad()
    def evaluate(self, step: int) -> float:
        """The mean loss of the validation part."""
        self.network.eval()
        loss, weight = 0.0, 0
        for place in range(len(self.validation)):
            batch = self.validation[place]
            loss += self.objective(self.network, batch).item()
            weight += batch.weight
        self.network.train()
        return _finite(loss / max(weight, 1), "validation loss", f"step {step + 1}")


def _finite(value: float, what: str, where: str) -> float:
    if math.isfinite(value):
        return value
    hint = "A lower learning rate, a longer warm-up or float32 usually helps."
    raise TrainingError(f"the {what} is {value}.", where=where, hint=hint)


def _adamw(parameters: Parameters, config: TrainingConfig) -> torch.optim.AdamW:
    """AdamW (Loshchilov & Hutter 2017, arXiv 1711.05101), decaying matrices only."""
    decayed = [parameter for parameter in parameters.values() if parameter.dim() >= 2]
    plain = [parameter for parameter in parameters.values() if parameter.dim() < 2]
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=config.adam_betas, fused=True)


@contextmanager
def _training_mode(network: nn.Module) -> Iterator[None]:
    was_training = network.training
    network.train()
    try:
        yield
    finally:
        network.train(was_training)


@contextmanager
def _own_randomness(seed: int) -> Iterator[None]:
    """Seed the random generators inside the `with`; the caller's states are restored afterwards."""
    with torch.random.fork_rng(list(range(torch.cuda.device_count()))):
        torch.manual_seed(seed)
        yield
