"""The part of an adapter on one layer: a low-rank update, with or without a magnitude for each output.

LoRA (Hu et al. 2021, arXiv 2106.09685, eq. 3): h = W x + s B A x, with W frozen, A [R, I] and B [O, R] trained, and
s = alpha / R, or alpha / sqrt(R) (rank-stabilised: Kalajdzievski 2023, arXiv 2312.03732).

DoRA (Liu et al. 2024, arXiv 2402.09353, eq. 5): h = m (W + s B A) x / |W + s B A|, with the norm of each row and a
magnitude m [O]. As in its authors' code, a bias is outside.

Both on an embedding: its table [V, D] is the transpose of a linear layer's weight, with I = V and O = D. A and B are in
float32 whatever the base's precision, because an optimiser's steps would be lost in bfloat16; they are applied in the
activations' precision, as in autocast.

Shapes: N tokens of a flat batch, I in_features, O out_features, R rank.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LoRA(nn.Module):
    """The update of one adapter on one layer. B starts at zero, so that a fresh adapter changes nothing.

    Attributes:
        rank: R.
        scaling: The scale s, from `alpha` and `use_rslora`.
        dropout: Probability of dropping an input of the update while training.
        magnitude: m [O] of DoRA, or None.
    """

    magnitude: Tensor | None

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        rank: int,
        alpha: float,
        use_rslora: bool = False,
        dropout: float = 0.0,
        device: torch.device | None = None,
    ) -> None:
        super().__init__()
        self.A = nn.Parameter(torch.zeros(rank, in_features, dtype=torch.float32, device=device))
        self.B = nn.Parameter(torch.zeros(out_features, rank, dtype=torch.float32, device=device))
        self.rank = rank
        self.alpha = alpha
        self.scaling = alpha / (math.sqrt(rank) if use_rslora else rank)
        self.use_rslora = use_rslora
        self.dropout = dropout
        self.register_buffer("magnitude", None)
        self._stretch: Tensor | None = None

    def initialise(self, generator: torch.Generator | None = None) -> None:
        """Draw A as `nn.Linear` does (uniform within 1 / sqrt(I)), and set B to zero."""
        bound = 1 / math.sqrt(self.A.shape[1])
        with torch.no_grad():
            drawn = torch.empty(self.A.shape, dtype=torch.float32).uniform_(-bound, bound, generator=generator)
            self.A.copy_(drawn)
            self.B.zero_()

    def apply_to(self, output: Tensor, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The adapted output [N, O], from the layer's own W x + bias, which is overwritten, and its input [N, I]."""
        dropped = F.dropout(input, self.dropout, training=True) if self.dropout and self.training else input
        return self._added(output, F.linear(dropped, self.A.to(input.dtype)), weight, bias)

    def apply_to_rows(self, output: Tensor, ids: Tensor, table: Tensor) -> Tensor:
        """The adapted rows [N, O] of an embedding's table [V, D], from its own, which are overwritten, and ids [N]."""
        return self._added(output, F.embedding(ids, self.A.t()).to(output.dtype), table.t(), None)

    def _added(self, output: Tensor, inner: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        output = output.addmm_(inner, self.B.to(output.dtype).t(), alpha=self.scaling)
        if self.magnitude is None:
            return output
        stretch = self.stretch(weight).to(output.dtype)
        return output * stretch if bias is None else torch.addcmul((1 - stretch) * bias, output, stretch)

    def stretch(self, weight: Tensor) -> Tensor:
        """m / |W + s B A| [O], float32, computed once: the magnitudes of a trained adapter do not change."""
        assert self.magnitude is not None, "an adapter without magnitudes stretches nothing"
        if self._stretch is None or self._stretch.device != weight.device:
            self._stretch = self.magnitude.float() / self.merged(weight, stretched=False).norm(dim=1)
        return self._stretch

    def merged(self, weight: Tensor, *, stretched: bool = True) -> Tensor:
        """The weight [O, I] of the adapted layer, float32."""
        sum = weight.detach().float() + self.scaling * (self.B.detach() @ self.A.detach()).float()
        return sum if self.magnitude is None or not stretched else self.stretch(weight)[:, None] * sum
