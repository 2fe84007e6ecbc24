"""What each trial will take, estimated before it runs: parameters, memory and time, and what the estimate depends on.

Memory is that of this process plus weights, key-value cache and activations of the largest step. Time is tokens x
parameters over the speed of this machine, which earlier steps in the ledger tell, or else a matrix product measured on
the spot. After a run the ledger has the factor by which an estimate was off.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from statistics import mean, median

import psutil
import torch

from germinal.checkpoints import config_at
from germinal.checkpoints.gguf_file import stored_tensors
from germinal.checkpoints.gguf_header import read_header
from germinal.checkpoints.stored import main_precision
from germinal.data import read_table
from germinal.data.dataset import inputs_of
from germinal.generation.backends.backend import NUM_SLOTS
from germinal.generation.scheduler import MAX_STEP_TOKENS
from germinal.ledger import EstimateRecord, Ledger
from germinal.models.config import TransformerConfig
from germinal.models.transformer import Transformer
from germinal.predictors.answers import BATCH_CALIBRATION_INPUTS, CONTENT_FREE_INPUTS, TEXT_TOKENS
from germinal.project.file.config import ProjectConfig
from germinal.project.plan.resolver import Resolver
from germinal.project.plan.step_graph import StepGraph
from germinal.project.plan.trials import HEAD, Trial
from germinal.project.steps.environment import device
from germinal.project.steps.model import check_purpose, locate

_CHARACTERS_A_TOKEN = 4.5  # for English and a vocabulary of some 50,000
_BYTES = {"float32": 4, "bfloat16": 2}
_EFFICIENCY = 0.7  # share of a matrix product's speed that is left with attention, norms and small batches
_TRAINING_PASSES = 2.3  # forward passes that an update of an adapter is worth, checkpoints and validation included
_WHOLE_TRAINING_PASSES = 3.5  # the same when all weights are updated
_TRAINED_WEIGHT_BYTES = 28  # weight, gradient, two running means; while a checkpoint is written, three of them twice
_LIBRARIES_BYTES = 100_000_000  # scikit-learn and others, once they are imported
_CACHE_GROWTH = 1.5  # a cache that grows is copied: for a moment both are there


@dataclass(frozen=True)
class ModelSize:
    """A model's config and the number of its parameters.

    Attributes:
        computing: Parameters that every token goes through: all but the embeddings.
        mapped_bytes: Size of a file that stays mapped into memory beside the weights unpacked from it.
        stored_precision: How the file holds its weights; None for a folder.
    """

    config: TransformerConfig
    parameters: int
    computing: int
    mapped_bytes: int
    stored_precision: str | None = None


@dataclass(frozen=True)
class Amounts:
    """Rows and tokens of a project's data.

    Attributes:
        dev: Rows of dev; `train` those of the training split.
        input_tokens: Mean tokens of an input; `longest_input` is the highest number.
        target_tokens: Mean tokens of a right answer.
        labels: How many there are, 0 where answers are texts.
    """

    dev: int
    train: int
    input_tokens: float
    longest_input: float
    target_tokens: float
    labels: int


@dataclass(frozen=True)
class Speed:
    """How fast this machine is, in tokens x parameters per second, and how that is known."""

    work_per_second: float
    basis: str


def estimate_trials(graph: StepGraph, resolver: Resolver, ledger: Ledger, folder: Path) -> dict[str, EstimateRecord]:
    """Estimates by trial, without baselines, which take next to nothing, and models that are not fetched yet.

    Raises:
        DataError: the data file is missing or malformed.
    """
    amounts = _amounts(graph, resolver, folder)
    sizes = _model_sizes(graph, folder, amounts)
    if not sizes:
        return {}
    speed = _speed(ledger, {size.parameters: size.computing for size in sizes.values()})
    resting = _resident_bytes() + _LIBRARIES_BYTES
    return {
        trial.id: (_estimate_head if trial.adapter == HEAD else _estimate)(
            trial, graph.config, sizes[trial.model], amounts, speed, resting
        )
        for trial in graph.trials
        if trial.model in sizes
    }


def _estimate(
    trial: Trial, config: ProjectConfig, size: ModelSize, amounts: Amounts, speed: Speed, resting: int
) -> EstimateRecord:
    own, shared = _prompt_tokens(trial, config, amounts)
    if size.config.stacks == "encoder-decoder":  # an encoder reads each prompt whole
        own, shared = own + shared, 0.0
    answer, most = _answer_tokens(config, amounts)
    longest = own + shared + amounts.longest_input - amounts.input_tokens + most + 4
    asked = {"generated": 0.0, "scored": 0.0}
    if "generate" in config.adapt.prompt.rules:
        asked["generated"] = answer
    if {"likelihood", "calibrated"} & set(config.adapt.prompt.rules):
        asked["scored"] = float(amounts.labels) / 2  # most labels are one token, which costs none
    computed = shared + amounts.dev * (own + sum(asked.values()))
    if trial.rule == "calibrated":
        batch = config.adapt.prompt.calibration == "batch"
        computed += shared + (BATCH_CALIBRATION_INPUTS if batch else len(CONTENT_FREE_INPUTS)) * (own + asked["scored"])
    lora = config.adapt.lora if trial.adapter else None
    learned = 2 if amounts.labels else amounts.target_tokens
    if lora:
        computed += (
            _TRAINING_PASSES * lora.epochs * min(amounts.train, lora.max_examples or amounts.train) * (own + learned)
        )
    weight_bytes = size.parameters * _BYTES[trial.precision or "float32"]
    cache_bytes = int(_cache_bytes(size.config, trial) * NUM_SLOTS * longest * _CACHE_GROWTH)
    activation_bytes = int(_activation_bytes(size.config) * min(MAX_STEP_TOKENS, NUM_SLOTS * longest))
    if lora:
        activation_bytes = max(activation_bytes, int(_training_bytes(size.config) * lora.micro_batch_size * longest))
    own_rule = asked["generated" if trial.rule == "generate" else "scored"]
    return EstimateRecord(
        parameters=size.parameters,
        weight_bytes=weight_bytes,
        cache_bytes=cache_bytes,
        activation_bytes=activation_bytes,
        memory_bytes=resting + size.mapped_bytes + weight_bytes + cache_bytes + activation_bytes,
        seconds=computed * size.computing / speed.work_per_second,
        tokens=int(shared + amounts.dev * (own + own_rule)),
        basis=speed.basis,
        stored_precision=size.stored_precision,
    )


def _answer_tokens(config: ProjectConfig, amounts: Amounts) -> tuple[float, float]:
    """Expected and highest number of tokens of a generated answer. A text is expected to be as long as a target."""
    settings = config.apply.generation
    if amounts.labels:
        most = float(settings.get("max_new_tokens", 4))
        return most, most
    most = float(settings.get("max_new_tokens", TEXT_TOKENS))
    return min(most, amounts.target_tokens) * settings.get("num_beams", 1), most


def _estimate_head(
    trial: Trial, config: ProjectConfig, size: ModelSize, amounts: Amounts, speed: Speed, resting: int
) -> EstimateRecord:
    """The estimate for a head: the model is trained whole, in float32, beside the weights as they were loaded."""
    head = config.adapt.head
    assert head is not None
    read = amounts.input_tokens + 2  # with the special tokens around it
    learned = _WHOLE_TRAINING_PASSES * head.epochs * min(amounts.train, head.max_examples or amounts.train) * read
    weight_bytes = size.parameters * (_BYTES[trial.precision or "float32"] + _TRAINED_WEIGHT_BYTES)
    longest = min(amounts.longest_input + 2, size.config.max_position_embeddings)
    activation_bytes = int(_training_bytes(size.config) * head.micro_batch_size * longest)
    return EstimateRecord(
        parameters=size.parameters,
        weight_bytes=weight_bytes,
        cache_bytes=0,
        activation_bytes=activation_bytes,
        memory_bytes=resting + weight_bytes + activation_bytes,
        seconds=(learned + amounts.dev * read) * size.computing / speed.work_per_second,
        tokens=int(amounts.dev * read),
        basis=speed.basis,
        stored_precision=size.stored_precision,
    )


def _prompt_tokens(trial: Trial, config: ProjectConfig, amounts: Amounts) -> tuple[float, float]:
    """Tokens of a prompt from the input on, and those before it, which all prompts share: they are computed once."""
    prompt = config.adapt.prompt
    start = len(prompt.instruction) / _CHARACTERS_A_TOKEN
    end = len(prompt.answer) / _CHARACTERS_A_TOKEN
    if prompt.chat:
        start, end = start + 10, end + 6  # a turn's special tokens and roles
    own = amounts.input_tokens + end
    return own, start + (trial.shots or 0) * (start + own + 2)


def _cache_bytes(config: TransformerConfig, trial: Trial) -> int:
    """Bytes of one token's keys and values."""
    return 2 * config.num_layers * config.num_kv_heads * config.head_dim * _BYTES[trial.precision or "float32"]


def _activation_bytes(config: TransformerConfig) -> int:
    """Bytes that one token takes on its way through a block, with its share of the logits."""
    return (
        4 * (6 * config.hidden_size + 3 * config.intermediate_size)
        + 4 * config.vocab_size * NUM_SLOTS // MAX_STEP_TOKENS
    )


def _training_bytes(config: TransformerConfig) -> int:
    """Bytes that one token takes in all blocks, until its gradient is computed."""
    return 4 * config.num_layers * (16 * config.hidden_size + 6 * config.intermediate_size)


def _model_sizes(graph: StepGraph, folder: Path, amounts: Amounts) -> dict[str | None, ModelSize]:
    """Sizes by reference, of models that are here, with their classification heads.

    Raises:
        UnsupportedError: a model cannot do what the project asks of it.
    """
    found: dict[str | None, ModelSize] = {}
    for reference in {trial.model for trial in graph.trials if trial.model}:
        path = locate(reference, folder, fetch=False)
        if path is not None:
            headed = reference in graph.config.headed
            size = size_of(path, amounts.labels if headed else None)
            check_purpose(reference, size.config, head=headed)
            found[reference] = size
    return found


def size_of(path: Path, num_labels: int | None = None) -> ModelSize:
    """A model's size, from the headers of its files alone.

    Args:
        path: A folder, or a .gguf file.
        num_labels: Give an encoder a head for so many labels.
    """
    config = config_at(path)
    stored = None if path.is_dir() else main_precision(stored_tensors(read_header(path)).values())
    if num_labels is not None and config.stacks == "encoder":
        config = replace(config, head="sequence-classification", num_labels=num_labels)
    weights = dict(Transformer(config, device="meta").named_parameters())
    parameters = sum(weight.numel() for weight in weights.values())
    embeddings = sum(weights[name].numel() for name in ("embed_tokens.weight", "lm_head.weight") if name in weights)
    mapped = path.stat().st_size if path.is_file() else 0
    return ModelSize(config, parameters, parameters - embeddings, mapped, stored)


def _amounts(graph: StepGraph, resolver: Resolver, folder: Path) -> Amounts:
    table, data = read_table(folder / graph.data.path), graph.data
    texts, targets = (
        [len(text) / _CHARACTERS_A_TOKEN for text in inputs_of(table, column)] for column in (data.input, data.target)
    )
    resolved = resolver.look(graph.data)
    if resolved and resolved.record:
        splits = resolved.record.values["splits"]
        dev, train = splits["dev"]["rows"], splits["train"]["rows"]
        labels = len(resolved.record.values["labels"])
    else:
        counts = [size if isinstance(size, int) else int(size * len(texts)) for size in (data.dev, data.test)]
        dev, train = min(counts[0], data.limit or counts[0]), max(0, len(texts) - sum(counts))
        labels = max(2, len(graph.config.scope.labels)) if graph.answers == "labels" else 0
    return Amounts(dev, train, mean(texts), max(texts), mean(targets), labels)


def _speed(ledger: Ledger, computing: Mapping[int, int]) -> Speed:
    """The speed of earlier steps of these models on this machine, else that of a short measurement.

    Args:
        computing: A model's number of parameters -> how many of them compute.
    """
    here = device()
    known = [
        computing[step.values["parameters"]] * sum(step.values["tokens"].values()) / step.seconds
        for step in ledger.measured("predict")
        if step.seconds > 0 and step.values["parameters"] in computing and step.environment.device == here
    ]
    if known:
        return Speed(median(known), f"{len(known)} earlier steps on this machine")
    return Speed(_matrix_speed() * _EFFICIENCY, "a matrix product measured on this machine")


@lru_cache(maxsize=1)
def _matrix_speed() -> float:
    """Multiplications per second in a product of the size that a small model has."""
    left, right = torch.randn(256, 1024), torch.randn(1024, 1024)
    fastest, start = float("inf"), time.perf_counter()
    while time.perf_counter() - start < 0.1:  # the fastest counts: other work may slow some of them down
        before = time.perf_counter()
        left @ right
        fastest = min(fastest, time.perf_counter() - before)
    return left.numel() * right.shape[1] / fastest


def _resident_bytes() -> int:
    return int(psutil.Process().memory_info().rss)
