"""The loss of a language model: cross-entropy of each labelled token given what stands before it.

    L = - sum over labelled t of log softmax(z_{t-1})[y_t]        z = logits, y = labels; L in [0, inf)

An untrained model gives about ln V a token; 0 is certainty of the right token. Losses are sums: dividing by the number
of labelled tokens of everything that goes into one update, not of one batch, is what makes accumulated gradients equal
the big batch's, and is the caller's to do.

The output matrix is the widest product of a small model, so hidden states are picked before it: where only answers are
labelled, most of the logits are never computed. Where many positions are labelled they are worked off in pieces, and
the gradient of each piece is taken while its logits still exist (as in Liger, Hsu et al. 2024, arXiv 2410.10989), so
that [N, V] never stands in memory whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

IGNORED = -100
"""The label of a position that has no part in the loss."""

CHUNK_SIZE = 512
"""Positions whose logits exist at once: 100 MB in float32 at a vocabulary of 49,152."""


def labelled_tokens(labels: Tensor) -> int:
    """How many tokens of `labels` [B, T] `causal_lm_loss` sums over; the first of a sequence has nothing before it."""
    return int((labels[:, 1:] != IGNORED).sum())


def causal_lm_loss(
    hidden_states: Tensor,
    labels: Tensor,
    project: Callable[[Tensor], Tensor],
    parameters: Iterable[Tensor] = (),
    *,
    chunk_size: int = CHUNK_SIZE,
) -> Tensor:
    """Summed cross-entropy of the labelled tokens, each predicted from the position before it.

    Args:
        hidden_states: [B, T, D].
        labels: [B, T], aligned with the input: the token itself where it counts, -100 elsewhere.
        project: Logits of hidden states, [N, D] -> [N, V].
        parameters: Whatever `project` uses that may want a gradient; more does no harm.
        chunk_size: Positions whose logits may exist at once.

    Returns:
        A float32 scalar in [0, inf); 0, with a gradient of zeros, when nothing is labelled.
    """
    targets = labels[:, 1:].flatten()  # [B (T-1)]
    counted = (targets != IGNORED).nonzero().squeeze(-1)  # [N]
    picked = hidden_states[:, :-1].flatten(0, 1).index_select(0, counted)  # [N, D]
    return projected_cross_entropy(picked, targets[counted], project, parameters, chunk_size=chunk_size)


def projected_cross_entropy(
    hidden_states: Tensor,
    targets: Tensor,
    project: Callable[[Tensor], Tensor],
    parameters: Iterable[Tensor] = (),
    *,
    chunk_size: int = CHUNK_SIZE,
) -> Tensor:
    """Summed cross-entropy of `project(hidden_states)` [N, V] against `targets` [N], at most `chunk_size` rows at once.

    Each of `targets` is in [0, V). The other arguments and the result are as in `causal_lm_loss`.
    """
    if len(targets) <= chunk_size:
        return cross_entropy(project(hidden_states), targets)
    loss: Tensor = _ChunkedCrossEntropy.apply(  # type: ignore[no-untyped-call]
        project, targets, chunk_size, hidden_states, *parameters
    )
    return loss


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Summed cross-entropy of `logits` [N, V] against `targets` [N], worked out in float32; -100 is ignored."""
    return F.cross_entropy(logits.float(), targets, ignore_index=IGNORED, reduction="sum")


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Loss and gradients of one piece after the other; backward only scales what forward has already worked out."""

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        project: Callable[[Tensor], Tensor],
        targets: Tensor,
        chunk_size: int,
        hidden_states: Tensor,
        *parameters: Tensor,
    ) -> Tensor:
        needed: tuple[bool, ...] = ctx.needs_input_grad[4:]  # type: ignore[attr-defined]
        trained = [parameter for parameter, needs in zip(parameters, needed, strict=True) if needs]
        learning = bool(trained) or ctx.needs_input_grad[3]  # type: ignore[attr-defined]
        of_hidden: list[Tensor] = []
        of_trained: list[Tensor | None] = [None] * len(trained)
        total = torch.zeros((), dtype=torch.float32, device=hidden_states.device)
        for start in range(0, len(targets), chunk_size):
            chosen = slice(start, start + chunk_size)
            with torch.set_grad_enabled(learning):
                piece = hidden_states[chosen].detach().requires_grad_(learning)
                loss = cross_entropy(project(piece), targets[chosen])
            total += loss.detach()
            if learning:
                first, *rest = torch.autograd.grad(loss, [piece, *trained], allow_unused=True)
                of_hidden.append(first)
                of_trained = [_add(running, gradient) for running, gradient in zip(of_trained, rest, strict=True)]
        found = iter(of_trained)
        of_parameters = [next(found) if needs else None for needs in needed]
        ctx.gradients = [torch.cat(of_hidden), *of_parameters] if learning else []  # type: ignore[attr-defined]
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, scale: Tensor) -> tuple[Tensor | None, ...]:
        gradients: list[Tensor | None] = ctx.gradients  # type: ignore[attr-defined]
        scaled = [None if gradient is None else gradient * scale for gradient in gradients]
        return (None, None, None, *scaled)


def _add(running: Tensor | None, gradient: Tensor | None) -> Tensor | None:
    """Their sum in float32; None where no gradient has arrived yet."""
    if gradient is None:
        return running
    return gradient.float() if running is None else running.add_(gradient)
