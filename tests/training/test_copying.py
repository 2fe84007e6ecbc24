"""Copying and reversing short strings: a decoder learns both, to the last one of the unseen strings.

An encoder, which generates nothing, learns to label each token by the one before it.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from germinal.generation.backends.torch_backend import TorchBackend
from germinal.generation.config import GenerationConfig
from germinal.generation.engine import Engine
from germinal.generation.sequence import Sequence
from germinal.models import families
from germinal.models.transformer import Transformer
from germinal.objectives.language_modelling import causal_lm_loss
from germinal.training.config import TrainingConfig
from germinal.training.examples import Batch, TuningData, TuningExample
from germinal.training.loop import train

PAD, END, COPY, REVERSE, ANSWER = range(5)
LETTERS = range(5, 15)
LONGEST = 6
SIZES = {
    "vocab_size": 15,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_layers": 2,
    "num_heads": 4,
    "max_position_embeddings": 32,
}
DECODERS = ["llama", "gpt2"]


@dataclass(frozen=True)
class Task:
    """Copy or reverse a string."""

    kind: int
    string: tuple[int, ...]

    @property
    def prompt(self) -> tuple[int, ...]:
        return (self.kind, *self.string, ANSWER)

    @property
    def answer(self) -> tuple[int, ...]:
        return self.string if self.kind == COPY else self.string[::-1]


def tasks(count: int) -> list[Task]:
    """So many different tasks; strings of one and two letters are too few to be unseen."""
    chance = random.Random(0)
    found: dict[Task, None] = {}
    while len(found) < count:
        string = tuple(chance.choices(LETTERS, k=chance.randint(3, LONGEST)))
        found[Task(chance.choice((COPY, REVERSE)), string)] = None
    return list(found)


ALL = tasks(16_200)
UNSEEN, SEEN = ALL[:200], ALL[200:]
CONFIG = TrainingConfig(
    epochs=10,
    micro_batch_size=64,
    learning_rate=3e-3,
    warmup_steps=100,
    validation_fraction=0.0,
    adam_betas=(0.9, 0.98),
    save_every=10_000,
)


def fresh(family: str, **config: Any) -> Transformer:
    torch.manual_seed(0)
    network = families.build(family, **SIZES, **config)
    tables = [module for module in network.modules() if isinstance(module, nn.Embedding)]
    for table in tables:
        nn.init.normal_(table.weight, std=table.embedding_dim**-0.5)
    return network


def data() -> TuningData:
    examples = [TuningExample(task.prompt, (*task.answer, END)) for task in SEEN]
    return TuningData(examples, micro_batch_size=64, validation_fraction=0.0, seed=0, pad_id=PAD)


def prompt_and_answer(network: nn.Module, batch: Batch) -> Tensor:
    """The loss of a model with one stack; padding stands on the right, where nothing looks."""
    return causal_lm_loss(network(batch.input_ids[:, :-1]), batch.labels, network.logits, network.parameters())


def generated(engine: Engine) -> Iterator[tuple[int, ...]]:
    config = GenerationConfig(max_new_tokens=LONGEST + 2, eos_ids=(END,))
    sequences = [Sequence(task.prompt, config) for task in UNSEEN]
    for sequence in sequences:
        engine.add(sequence)
    while engine.has_work:
        engine.step()
    return (tuple(sequence.token_ids) for sequence in sequences)


def wrong(answers: Iterator[tuple[int, ...]]) -> list[tuple[Task, tuple[int, ...]]]:
    return [(task, answer) for task, answer in zip(UNSEEN, answers, strict=True) if answer != task.answer]


@pytest.mark.slow
@pytest.mark.parametrize("family", DECODERS)
def test_a_decoder_copies_and_reverses(family: str, tmp_path: Path) -> None:
    network = fresh(family)
    train(network, prompt_and_answer, data(), CONFIG, tmp_path, recipe={"family": family})
    assert wrong(generated(Engine(TorchBackend(network.eval())))) == []


def token_before(network: nn.Module, batch: Batch) -> Tensor:
    scores = network.head(network(batch.input_ids, batch.attention_mask))  # [B, T, labels]
    real = batch.attention_mask[:, 1:].bool()
    # Summed over real tokens, and told in units of the loop's weight, labelled tokens.
    loss = F.cross_entropy(scores[:, 1:][real], batch.input_ids[:, :-1][real])
    return loss * batch.weight


@pytest.mark.slow
@pytest.mark.parametrize("family", ["bert"])
def test_an_encoder_labels_tokens(family: str, tmp_path: Path) -> None:
    network = fresh(family, head="token-classification", num_labels=15)
    train(network, token_before, data(), CONFIG, tmp_path, recipe={"family": family})
    network.eval()
    with torch.no_grad():
        for task in UNSEEN:
            ids = torch.tensor([task.prompt])
            assert network.head is not None
            assert network.head(network(ids)).argmax(-1)[0, 1:].tolist() == list(task.prompt[:-1])
