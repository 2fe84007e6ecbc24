"""A batch that computes its common beginning once gives the loss and the gradients of one that does not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from germinal.layers.adapters import add_adapter, routed
from germinal.layers.lora_config import LoRAConfig
from germinal.models.transformer import Transformer
from germinal.objectives.language_modelling import causal_lm_loss
from germinal.training.examples import Batch, TuningExample, collate
from germinal.training.lora import answer_loss
from germinal.training.shared_prefix import shared_prefix

BEGINNING = (11, 12, 13, 14, 15, 16)


def batch(beginning: tuple[int, ...] = BEGINNING, lengths: tuple[int, ...] = (1, 4, 9)) -> Batch:
    generator = torch.Generator().manual_seed(0)

    def ids(length: int) -> tuple[int, ...]:
        return tuple(torch.randint(20, 90, (length,), generator=generator).tolist())

    examples = [TuningExample(beginning + ids(length), ids(2)) for length in lengths]
    return collate(examples, range(len(examples)), pad_id=0, device=None)


def loss_and_gradients(network: Transformer, loss: Callable[[], Tensor]) -> list[Tensor]:
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    with routed(network, "film"):
        value = loss()
        return [value, *torch.autograd.grad(value, trained, allow_unused=True)]


@pytest.mark.parametrize("full", [False, True], ids=["adapter", "all weights"])
def test_loss_and_gradients_are_those_of_whole_rows(
    make_pair: Callable[..., tuple[Transformer, Any]], full: bool
) -> None:
    network, _ = make_pair()
    network.requires_grad_(full)
    for part in add_adapter(network, "film", LoRAConfig(target_modules=("all-linear",))).values():
        nn.init.normal_(part.B, std=0.1)
    given = batch()
    assert shared_prefix(given.input_ids, given.labels) == len(BEGINNING)

    ours = loss_and_gradients(network, lambda: answer_loss(network, given))
    whole = loss_and_gradients(
        network, lambda: causal_lm_loss(network(given.input_ids, given.attention_mask), given.labels, network.logits)
    )
    for mine, expected in zip(ours, whole, strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-3, atol=1e-4)


def test_the_beginning_goes_through_the_network_once(make_pair: Callable[..., tuple[Transformer, Any]]) -> None:
    network, _ = make_pair()
    seen: list[int] = []
    network.embed_tokens.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].numel()))
    given = batch()
    answer_loss(network, given)
    rows, width = given.input_ids.shape
    assert seen == [len(BEGINNING) + rows * (width - 1 - len(BEGINNING))]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (batch(), 6),
        (batch(BEGINNING[:3]), 0),  # not worth it
        (batch(lengths=(5,)), 0),  # a single row has nobody to share with
        (batch(lengths=(0, 0)), 5),  # the last token of the prompt predicts the answer and stays with its row
        (batch(()), 0),
    ],
)
def test_what_is_shared(given: Batch, expected: int) -> None:
    assert shared_prefix(given.input_ids, given.labels) == expected


def test_equal_rows_share_up_to_their_answers(make_pair: Callable[..., tuple[Transformer, Any]]) -> None:
    network, _ = make_pair()
    example = TuningExample((*BEGINNING, 30, 31), (40, 41))
    twice = collate([example, example], [0, 1], 0, None)
    once = collate([example], [0], 0, None)
    assert shared_prefix(twice.input_ids, twice.labels) == 7
    torch.testing.assert_close(answer_loss(network, twice), 2 * answer_loss(network, once), rtol=1e-4, atol=1e-4)
