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
        wanted = ctx.needs_input_grad[3:]  # type: ignore[attr-defined]
        trained = [parameter for parameter, needed in zip(parameters, wanted[1:], strict=True) if needed]
        sums = [torch.zeros_like(parameter, dtype=torch.float32) for parameter in trained]
        hidden_gradient = torch.empty_like(hidden_states) if wanted[0] else None
        total = torch.zeros((), dtype=torch.float32, device=hidden_states.device)
        for start in range(0, len(targets), chunk_size):
            piece = slice(start, start + chunk_size)
            with torch.set_grad_enabled(any(wanted)):
                inputs = hidden_states[piece].detach().requires_grad_(any(wanted))
                loss = cross_entropy(project(inputs), targets[piece])
            total += loss.detach()
            if not any(wanted):
                continue
            first, *rest = torch.autograd.grad(loss, [inputs, *trained], allow_unused=True)
            if hidden_gradient is not None:
                hidden_gradient[piece] = first
            for running, gradient in zip(sums, rest, strict=True):
                if gradient is not None:
                    running += gradient
        gradients = iter([running.to(parameter.dtype) for running, parameter in zip(sums, trained, strict=True)])
        of_parameters = [next(gradients) if needed else None for needed in wanted[1:]]
        ctx.gradients = [hidden_gradient, *of_parameters]  # type: ignore[attr-defined]
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, scale: Tensor) -> tuple[Tensor | None, ...]:
        gradients: list[Tensor | None] = ctx.gradients  # type: ignore[attr-defined]
        scaled = [None if gradient is None else gradient * scale.to(gradient.dtype) for gradient in gradients]
        return (None, None, None, *scaled)
