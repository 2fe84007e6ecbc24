"""The linear layer, computed by this package's kernels, with a weight of its own or tied to an embedding."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from germinal.layers.kernels import linear, packed


class Linear(nn.Linear):
    """torch's linear layer, computed by this package's kernels.

    Attributes:
        tied_to: The embedding whose table is the weight, if the layer has none of its own (Press & Wolf 2016, arXiv
            1608.05859). In a tuple, so that it is not one more module of the network.
    """

    tied_to: tuple[nn.Embedding, ...] = ()
    _packed: Tensor | None = None

    @property
    def matrix(self) -> Tensor:
        """The weight that the layer multiplies by, [O, I]."""
        return self.tied_to[0].weight if self.weight is None else self.weight

    @property
    def _operand(self) -> Tensor:
        return self.matrix if self._packed is None else self._packed

    def reset_parameters(self) -> None:
        """Draw random weights; not on the meta device, where torch takes long to draw none."""
        if not self.weight.is_meta:
            super().reset_parameters()

    def forward(self, input: Tensor, activation: str | None = None) -> Tensor:
        """[..., I] -> [..., O]; `activation` is a name in `ACTIVATIONS`, applied to the output."""
        return linear(input, self._operand, self.bias, activation)


def tied_linear(table: nn.Embedding) -> Linear:
    """The output matrix of a network that ties it to its embedding [V, D]: a layer D -> V without parameters."""
    layer = Linear(table.embedding_dim, table.num_embeddings, bias=False, device="meta")
    layer.register_parameter("weight", None)
    layer.tied_to = (table,)
    return layer


@contextmanager
def packed_weights(network: nn.Module) -> Iterator[None]:
    """Inside the `with`, keep a second copy of the linear layers' weights in the layout that the kernels need, which
    saves some 5% of a pass over many tokens. For inference only; the weights must not change meanwhile.
    """
    layers = [module for module in network.modules() if isinstance(module, Linear) and not module.tied_to]
    try:
        for layer in layers:
            layer._packed = packed(layer.weight)
        yield
    finally:
        for layer in layers:
            layer._packed = None
