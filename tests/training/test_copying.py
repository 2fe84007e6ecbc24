"""Copying and reversing short strings: every generative family learns both, to the last one of the unseen strings.

The encoders, which generate nothing, learn to label each token by the one before it. All train from fresh weights in
the project's own loop, and answer through its own engine.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from germinal.generation.backends.backend import Backend
from germinal.generation.backends.rnn_backend import RNNBackend
from germinal.generation.backends.torch_backend import TorchBackend
from germinal.generation.config import GenerationConfig
from germinal.generation.engine import Engine
from germinal.generation.sequence import Sequence
from germinal.models import families
from germinal.models.rnn import RNNConfig, RNNLanguageModel
from germinal.models.transformer import Transformer
from germinal.objectives.language_modelling import causal_lm_loss
from germinal.training.config import TrainingConfig
from germinal.training.examples import Batch, TuningData, TuningExample
from germinal.training.interfaces import Objective
from germinal.training.loop import train
from germinal.training.lora import answer_loss

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
GROUPED = {"num_kv_heads": 2}
VARIANTS: dict[str, dict[str, dict[str, Any]]] = {
    "bloom": {"bloom": {"num_heads": 8, "num_layers": 4}},  # two layers of slopes cannot count a letter's repetitions
    "llama": {"llama": GROUPED},
    "mistral": {"mistral": {**GROUPED, "window": 8}},
    "qwen2": {"qwen2": GROUPED},
    "qwen3": {"qwen3": GROUPED},
    "gemma3": {"gemma3": {**GROUPED, "window": 8, "windowed_layers": (True, False)}},
    "t5": {
        "t5 1.0": {"gated": False, "activation": "relu", "tie_embeddings": True, "logit_scale": 64**-0.5},
        "t5 1.1": {},
    },
}
"""Of the families that learn in other sizes or in several ways; the others learn in `SIZES`."""


def learners(stacks: str) -> dict[str, tuple[str, dict[str, Any]]]:
    """Every family with these stacks: what a learner is called, its family, and what differs from `SIZES`."""
    return {
        name: (family.name, changes)
        for family in families.FAMILIES.values()
        if family.defaults.get("stacks", "decoder") == stacks
        for name, changes in VARIANTS.get(family.name, {family.name: {}}).items()
    }


DECODERS, ENCODER_DECODERS, ENCODERS = map(learners, ("decoder", "encoder-decoder", "encoder"))
CONFIG = TrainingConfig(
    epochs=1,  # no string is seen twice: none can be learned by heart
    micro_batch_size=64,
    learning_rate=3e-3,
    warmup_steps=100,
    validation_fraction=0.0,
    adam_betas=(0.9, 0.98),
    save_every=10_000,
)


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


@cache
def tasks(count: int = 96_000) -> tuple[list[Task], list[Task]]:
    """200 tasks and about `count` others, of other strings; those of one and two letters are too few to be unseen."""
    chance = random.Random(0)
    found: dict[Task, None] = {}
    while len(found) < 200 + count:
        string = tuple(chance.choices(LETTERS, k=chance.randint(3, LONGEST)))
        found[Task(chance.choice((COPY, REVERSE)), string)] = None
    unseen, others = list(found)[:200], list(found)[200:]
    held_out = {task.string for task in unseen}
    return unseen, [task for task in others if task.string not in held_out]


def test_every_family_has_its_turn_and_no_string_is_seen_before() -> None:
    learning = (DECODERS | ENCODER_DECODERS | ENCODERS).values()
    assert {family for family, _ in learning} == set(families.FAMILIES)
    unseen, seen = tasks()
    assert not {task.string for task in unseen} & {task.string for task in seen}
    assert {(task.kind, len(task.string)) for task in unseen} == set(product((COPY, REVERSE), range(3, LONGEST + 1)))


def fresh(family: str, **config: Any) -> Transformer:
    torch.manual_seed(0)
    return with_small_embeddings(families.build(family, **SIZES | config))


def with_small_embeddings(network: Any) -> Any:
    """A network whose embeddings are drawn as narrow as its width asks for, as the families' papers do."""
    for module in network.modules():
        if isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=module.embedding_dim**-0.5)
    return network


def learn(
    network: nn.Module,
    objective: Objective,
    folder: Path,
    config: TrainingConfig = CONFIG,
    *,
    answer_start: tuple[int, ...] | None = None,
) -> None:
    """Train a network on the seen tasks."""
    examples = [TuningExample(task.prompt, (*task.answer, END)) for task in tasks()[1]]
    data = TuningData(
        examples,
        micro_batch_size=config.micro_batch_size,
        validation_fraction=0.0,
        seed=0,
        pad_id=PAD,
        answer_start=answer_start,
    )
    train(network, objective, data, config, folder, recipe={"learns": "strings"})
    network.eval()


def wrong(backend: Backend, *, two_stacks: bool = False) -> list[tuple[Task, tuple[int, ...]]]:
    """The unseen tasks that are not solved by greedy generation, with what was written."""
    config = GenerationConfig(max_new_tokens=LONGEST + 2, eos_ids=(END,))
    sequences = [
        Sequence((END,), config, encoder_input_ids=task.prompt) if two_stacks else Sequence(task.prompt, config)
        for task in tasks()[0]
    ]
    engine = Engine(backend)
    for sequence in sequences:
        engine.add(sequence)
    while engine.has_work:
        engine.step()
    answers = [tuple(sequence.token_ids) for sequence in sequences]
    return [(task, answer) for task, answer in zip(tasks()[0], answers, strict=True) if answer != task.answer]


@pytest.mark.slow
@pytest.mark.parametrize("name", DECODERS)
def test_a_decoder_copies_and_reverses(name: str, tmp_path: Path) -> None:
    family, config = DECODERS[name]
    network = fresh(family, **config)
    learn(network, answer_loss, tmp_path)
    assert wrong(TorchBackend(network)) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ENCODER_DECODERS)
def test_an_encoder_decoder_copies_and_reverses(name: str, tmp_path: Path) -> None:
    family, config = ENCODER_DECODERS[name]
    network = fresh(family, **config)
    learn(network, answer_loss, tmp_path, answer_start=(END,))
    assert wrong(TorchBackend(network), two_stacks=True) == []


def recurrent_loss(network: nn.Module, batch: Batch) -> Tensor:
    """Padding stands on the right, where no state has to pass it."""
    assert isinstance(network, RNNLanguageModel)
    return causal_lm_loss(network(batch.input_ids[:, :-1]), batch.labels, network.logits, network.parameters())


@pytest.mark.slow
@pytest.mark.parametrize(("cell", "learning_rate"), [("gru", 5e-3), ("lstm", 3e-3)])
def test_a_recurrent_model_copies_and_reverses(cell: Any, learning_rate: float, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = with_small_embeddings(RNNLanguageModel(RNNConfig(vocab_size=15, hidden_size=128, cell=cell)))
    learn(network, recurrent_loss, tmp_path, replace(CONFIG, epochs=2, learning_rate=learning_rate))
    assert wrong(RNNBackend(network)) == []


def token_before(network: nn.Module, batch: Batch) -> Tensor:
    scores = network.head(network(batch.input_ids, batch.attention_mask))  # [B, T, labels]
    real = batch.attention_mask[:, 1:].bool()
    # Summed over real tokens, and told in units of the loop's weight, labelled tokens.
    loss = F.cross_entropy(scores[:, 1:][real], batch.input_ids[:, :-1][real])
    return loss * batch.weight


@pytest.mark.slow
@pytest.mark.parametrize("family", ENCODERS)
def test_an_encoder_labels_tokens(family: str, tmp_path: Path) -> None:
    network = fresh(family, head="token-classification", num_labels=15)
    learn(network, token_before, tmp_path)
    assert network.head is not None
    with torch.no_grad():
        for task in tasks()[0]:
            scores = network.head(network(torch.tensor([task.prompt])))
            assert scores.argmax(-1)[0, 1:].tolist() == list(task.prompt[:-1])
