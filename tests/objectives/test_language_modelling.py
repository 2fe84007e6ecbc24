"""The language model's loss against its definition, and in pieces against whole."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from germinal.objectives.language_modelling import (
    IGNORED,
    causal_lm_loss,
    labelled_tokens,
    projected_cross_entropy,
)

VOCAB, HIDDEN = 11, 5


def defined(hidden_states: Tensor, labels: Tensor, head: nn.Linear) -> Tensor:
    """The equation of the module's docstring, token by token."""
    total = torch.zeros(())
    for row in range(labels.shape[0]):
        for position in range(1, labels.shape[1]):
            label = int(labels[row, position])
            if label != IGNORED:
                total = total - head(hidden_states[row, position - 1]).log_softmax(-1)[label]
    return total


def problem(seed: int = 0, batch: int = 3, length: int = 7) -> tuple[Tensor, Tensor, nn.Linear]:
    torch.manual_seed(seed)
    labels = torch.randint(0, VOCAB, (batch, length))
    labels[torch.rand(batch, length) < 0.5] = IGNORED
    return torch.randn(batch, length, HIDDEN, requires_grad=True), labels, nn.Linear(HIDDEN, VOCAB)


def gradients(loss: Tensor, hidden_states: Tensor, head: nn.Linear) -> Iterator[Tensor]:
    yield from torch.autograd.grad(loss, [hidden_states, *head.parameters()])


@pytest.mark.parametrize("chunk_size", [1, 2, 3, 512])
def test_loss_and_gradients_are_those_of_the_equation(chunk_size: int) -> None:
    hidden_states, labels, head = problem()
    expected = defined(hidden_states, labels, head)
    loss = causal_lm_loss(hidden_states, labels, head, head.parameters(), chunk_size=chunk_size)
    torch.testing.assert_close(loss, expected)
    for ours, theirs in zip(
        gradients(loss, hidden_states, head), gradients(expected, hidden_states, head), strict=True
    ):
        torch.testing.assert_close(ours, theirs)


@given(st.integers(0, 10_000), st.integers(1, 4), st.integers(1, 9), st.integers(1, 12))
@settings(max_examples=40, deadline=None)
def test_pieces_of_any_size_give_the_whole(seed: int, batch: int, length: int, chunk_size: int) -> None:
    hidden_states, labels, head = problem(seed, batch, length)
    whole = causal_lm_loss(hidden_states, labels, head)
    pieces = causal_lm_loss(hidden_states, labels, head, head.parameters(), chunk_size=chunk_size)
    torch.testing.assert_close(pieces, whole)
    for ours, theirs in zip(gradients(pieces, hidden_states, head), gradients(whole, hidden_states, head), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_the_last_hidden_state_is_not_needed() -> None:
    hidden_states, labels, head = problem()
    whole = causal_lm_loss(hidden_states, labels, head)
    torch.testing.assert_close(causal_lm_loss(hidden_states[:, :-1], labels, head), whole)


def test_only_labelled_positions_reach_the_output_matrix() -> None:
    hidden_states, labels, head = problem()
    seen: list[int] = []

    def project(picked: Tensor) -> Tensor:
        seen.append(len(picked))
        return head(picked)

    causal_lm_loss(hidden_states, labels, project, [], chunk_size=4)
    assert sum(seen) == labelled_tokens(labels) < labels.numel()
    assert max(seen) <= 4


def test_frozen_output_matrix_gets_no_gradient_and_hidden_states_do() -> None:
    hidden_states, labels, head = problem()
    head.requires_grad_(False)
    causal_lm_loss(hidden_states, labels, head, head.parameters(), chunk_size=2).backward()
    assert head.weight.grad is None
    assert hidden_states.grad is not None
    predicting = torch.zeros_like(labels, dtype=torch.bool)
    predicting[:, :-1] = labels[:, 1:] != IGNORED
    assert torch.equal(hidden_states.grad.abs().sum(-1) > 0, predicting)


def test_gradients_are_scaled_by_what_is_done_with_the_loss() -> None:
    hidden_states, labels, head = problem()
    small = gradients(causal_lm_loss(hidden_states, labels, head, head.parameters(), chunk_size=2), hidden_states, head)
    large = gradients(
        causal_lm_loss(hidden_states, labels, head, head.parameters(), chunk_size=2) * 3, hidden_states, head
    )
    for one, three in zip(small, large, strict=True):
        torch.testing.assert_close(one * 3, three)


@pytest.mark.parametrize("chunk_size", [1, 512])
def test_nothing_labelled_is_zero_not_nan(chunk_size: int) -> None:
    hidden_states, labels, head = problem()
    labels.fill_(IGNORED)
    labels[:, 0] = 1  # the first token has nothing before it
    loss = causal_lm_loss(hidden_states, labels, head, head.parameters(), chunk_size=chunk_size)
    assert loss.item() == 0
    assert labelled_tokens(labels) == 0
    assert all(torch.equal(gradient, torch.zeros_like(gradient)) for gradient in gradients(loss, hidden_states, head))


def test_without_gradients_pieces_give_the_same_number() -> None:
    hidden_states, labels, head = problem()
    with torch.no_grad():
        whole = causal_lm_loss(hidden_states, labels, head)
        pieces = causal_lm_loss(hidden_states, labels, head, chunk_size=2)
    torch.testing.assert_close(pieces, whole)


def identity(picked: Tensor) -> Tensor:
    """Hidden states that are logits already."""
    return picked


def test_range_of_values() -> None:
    uniform = projected_cross_entropy(torch.zeros(4, VOCAB), torch.arange(4), identity)
    assert uniform.item() == pytest.approx(4 * math.log(VOCAB))
    certain = torch.full((4, VOCAB), -1e9).scatter(1, torch.arange(4)[:, None], 0.0)
    assert projected_cross_entropy(certain, torch.arange(4), identity).item() == 0


def test_bfloat16_logits_are_summed_in_float32() -> None:
    logits, targets = torch.randn(600, VOCAB).to(torch.bfloat16).requires_grad_(), torch.randint(0, VOCAB, (600,))
    expected = F.cross_entropy(logits.float(), targets, reduction="sum")
    loss = projected_cross_entropy(logits, targets, identity, [], chunk_size=100)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, expected)
    (ours,), (theirs,) = torch.autograd.grad(loss, [logits]), torch.autograd.grad(expected, [logits])
    assert ours.dtype == torch.bfloat16
    torch.testing.assert_close(ours, theirs)


def test_an_output_matrix_that_was_not_named_gets_its_gradient_all_the_same() -> None:
    hidden_states, labels, head = problem()
    unnamed = gradients(causal_lm_loss(hidden_states, labels, head, chunk_size=2), hidden_states, head)
    named = gradients(causal_lm_loss(hidden_states, labels, head, head.parameters(), chunk_size=2), hidden_states, head)
    for ours, theirs in zip(unnamed, named, strict=True):
        torch.testing.assert_close(ours, theirs)
