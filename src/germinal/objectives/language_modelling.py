"""The loss of a language model: cross-entropy of each labelled token given the tokens before it.

    L = - sum over labelled t of log softmax(z_{t-1})[y_t]        z = logits, y = labels; L in [0, inf)

An untrained model gives about ln V per token; 0 is certainty of the right token. Losses are sums. The caller divides
them by the number of labelled tokens of a whole update, not of one batch: only so do accumulated gradients equal those
of one big batch.

The product with the output matrix is the largest of a small model, so labelled positions are selected before it: where
only answers are labelled, most of the logits are never computed. The others are computed in chunks, and the gradient of
a chunk,

    dL/dz_t = softmax(z_t) - onehot(y_{t+1}),

is computed together with it (as in Liger, Hsu et al. 2024, arXiv 2410.10989): [N, V] is never in memory whole, and the
two passes over it that autograd would add are saved.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

IGNORED = -100
"""The label of a position that does not count in the loss."""

CHUNK_SIZE = 256
"""Positions whose logits are in memory at once: 50 MB in float32 at a vocabulary of 49,152."""


def labelled_tokens(labels: Tensor) -> int:
    """How many tokens of `labels` [B, T] `causal_lm_loss` sums over: not the first of a row, which nothing precedes."""
    return int((labels[:, 1:] != IGNORED).sum())


def causal_lm_loss(
    hidden_states: Tensor,
    labels: Tensor,
    project: Callable[[Tensor], Tensor],
    parameters: Iterable[Tensor] | None = None,
    *,
    chunk_size: int = CHUNK_SIZE,
) -> Tensor:
    """Summed cross-entropy of the labelled tokens, each predicted from the position before it.

    Args:
        hidden_states: [B, T, D], or [B, T - 1, D]: nothing is predicted from the last token.
        labels: [B, T], aligned with the input: the token itself where it counts, -100 elsewhere.
        project: Logits of hidden states, [N, D] -> [N, V].
        parameters: The parameters that `project` uses and that may require a gradient; others do no harm. Without them
            gradients are computed in one chunk, by autograd, which finds the parameters itself.
        chunk_size: Positions whose logits may be in memory at once.

    Returns:
        A float32 scalar in [0, inf); 0, with a gradient of zeros, when nothing is labelled.
    """
    hidden_states = hidden_states[:, : labels.shape[1] - 1]  # [B, T - 1, D]
    return labelled_cross_entropy(hidden_states, labels[:, 1:], project, parameters, chunk_size=chunk_size)


def labelled_cross_entropy(
    hidden_states: Tensor,
    labels: Tensor,
    project: Callable[[Tensor], Tensor],
    parameters: Iterable[Tensor] | None = None,
    *,
    chunk_size: int = CHUNK_SIZE,
) -> Tensor:
    """Summed cross-entropy of the labelled tokens, each predicted at its own position: [B, T, D] against [B, T].

    For the decoder of an encoder-decoder, whose input is the labels shifted right by one, and for masked language
    models. The other arguments and the result are those of `causal_lm_loss`.
    """
    targets = labels.flatten()  # [B T]
    counted = (targets != IGNORED).nonzero().squeeze(-1)  # [N]
    picked = hidden_states.flatten(0, 1).index_select(0, counted)  # [N, D]
    return projected_cross_entropy(picked, targets[counted], project, parameters, chunk_size=chunk_size)


def projected_cross_entropy(
    hidden_states: Tensor,
    targets: Tensor,
    project: Callable[[Tensor], Tensor],
    parameters: Iterable[Tensor] | None = None,
    *,
    chunk_size: int = CHUNK_SIZE,
) -> Tensor:
    """Summed cross-entropy of `project(hidden_states)` [N, V] against `targets` [N], at most `chunk_size` rows at once.

    Each of `targets` is in [0, V). The other arguments and the result are those of `causal_lm_loss`.
    """
    if not torch.is_grad_enabled():
        return _by_chunks(hidden_states, targets, project, chunk_size)[0]
    if parameters is None:
        return F.cross_entropy(project(hidden_states).float(), targets, reduction="sum")
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    loss: Tensor = _ProjectedCrossEntropy.apply(  # type: ignore[no-untyped-call]
        project, targets, chunk_size, hidden_states, *trained
    )
    return loss


def _by_chunks(
    hidden_states: Tensor,
    targets: Tensor,
    project: Callable[[Tensor], Tensor],
    chunk_size: int,
    trained: Sequence[Tensor] | None = None,
) -> tuple[Tensor, list[Tensor | None]]:
    """The loss and, where `trained` is given, its gradients with respect to the hidden states and each of `trained`."""
    total = torch.zeros((), dtype=torch.float32, device=hidden_states.device)
    of_hidden: list[Tensor] = []
    of_trained: list[Tensor | None] = [None] * len(trained or ())
    for start in range(0, max(len(targets), 1), chunk_size):
        chosen = slice(start, start + chunk_size)
        with torch.set_grad_enabled(trained is not None):
            chunk = hidden_states[chosen].detach().requires_grad_(trained is not None)
            logits = project(chunk)  # [n, V]
        logps = logits.detach().float().log_softmax(-1)
        rows = torch.arange(len(logps), device=logps.device)
        total -= logps[rows, targets[chosen]].sum()
        if trained is not None:
            gradient = logps.exp_()
            gradient[rows, targets[chosen]] -= 1
            first, *rest = torch.autograd.grad(logits, [chunk, *trained], gradient.to(logits.dtype), allow_unused=True)
            of_hidden.append(first)
            of_trained = [_add(running, found) for running, found in zip(of_trained, rest, strict=True)]
    return total, [torch.cat(of_hidden) if of_hidden else None, *of_trained]


class _ProjectedCrossEntropy(torch.autograd.Function):
    """Forward computes the gradients too, while the logits are in memory; backward only scales them."""

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        project: Callable[[Tensor], Tensor],
        targets: Tensor,
        chunk_size: int,
        hidden_states: Tensor,
        *trained: Tensor,
    ) -> Tensor:
        loss, ctx.gradients = _by_chunks(  # type: ignore[attr-defined]
            hidden_states, targets, project, chunk_size, trained
        )
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, scale: Tensor) -> tuple[Tensor | None, ...]:
        gradients: list[Tensor | None] = ctx.gradients  # type: ignore[attr-defined]
        scaled = [None if gradient is None else gradient * scale for gradient in gradients]
        return (None, None, None, *scaled)


def _add(running: Tensor | None, gradient: Tensor | None) -> Tensor | None:
    """The running sum of gradients in float32; None as long as there is none."""
    if gradient is None:
        return running
    return gradient.float() if running is None else running.add_(gradient)
