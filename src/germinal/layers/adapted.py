"""Layers that carry the parts of adapters, and the routing that says which tokens go through which adapter.

An adapted layer keeps the weight, the bias and the names of the layer it replaces, so that weight rules, checkpoints
and packing backends see no difference.

Shapes: N tokens of a flat batch, I in_features, O out_features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from germinal.errors import SettingError, nearest
from germinal.layers.activations import ACTIVATIONS
from germinal.layers.kernels import linear
from germinal.layers.linear import Linear
from germinal.layers.lora import LoRA

Route = str | Sequence[tuple[str, Tensor]] | None
"""One adapter for all tokens; or pairs of an adapter and the indices of its tokens in the flat batch; or None."""


@dataclass(frozen=True, slots=True)
class Replaced:
    """Other values for a parameter of the network, or for some of its rows.

    Attributes:
        values: The parameter or its rows; None where a layer has no weight of its own, because it is tied.
        rows: Indices of the rows; None if all of the parameter is replaced.
    """

    values: Tensor | None
    rows: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Adapter:
    """All that an adapter does to a network. Whatever its file calls it, it comes down to these three.

    Attributes:
        updates: Low-rank updates, by the name of their linear layer or embedding.
        replaced: Parameters that have other values, by name: biases, norms, heads, rows of embeddings.
        virtual_tokens: Rows [n, D] behind the embedding's (prompt tuning: Lester et al. 2021, arXiv 2104.08691), whose
            ids V ... V + n - 1 stand before every prompt; no text has these ids.
    """

    updates: Mapping[str, LoRA] = field(default_factory=dict)
    replaced: Mapping[str, Replaced] = field(default_factory=dict)
    virtual_tokens: Tensor | None = None


class AdapterRouting:
    """Which adapter the tokens of the current batch go through. The adapted layers of a network share one routing;
    `germinal.layers.adapters.routed` sets it.

    Attributes:
        route: See `Route`. Token indices are those of the batch flattened to [N, ...].
        adapters: The adapters that the network carries.
        merged: The adapter that the weights now contain, if any.
    """

    def __init__(self) -> None:
        self.route: Route = None
        self.adapters: dict[str, Adapter] = {}
        self.merged: str | None = None

    def require(self, name: str) -> Adapter:
        """Adapter `name`; a SettingError when the network has no such adapter."""
        if name not in self.adapters:
            hint = nearest(name, list(self.adapters)) if self.adapters else "None is loaded."
            raise SettingError("the model has no such adapter.", where=f"adapter '{name}'", hint=hint)
        return self.adapters[name]


class AdaptedLinear(Linear):
    """A linear layer with any number of adapters. Without a route it computes the same as the layer it replaced."""

    def __init__(self, base: nn.Linear, routing: AdapterRouting) -> None:
        super().__init__(base.in_features, base.out_features, bias=False, device="meta")
        self.weight = base.weight
        self.bias = base.bias
        self.tied_to = base.tied_to if isinstance(base, Linear) else ()
        self.adapters = nn.ModuleDict()
        self.routing = routing
        self._before_merge: tuple[Tensor] | None = None  # in a tuple: not one more parameter
        self.train(base.training)

    def forward(self, input: Tensor, activation: str | None = None) -> Tensor:
        """As `Linear.forward`, with the routed adapters' updates before the activation."""
        route = self.routing.route
        absent = route is None or (isinstance(route, str) and route not in self.adapters)
        if absent or self._before_merge is not None:
            return super().forward(input, activation)
        assert route is not None, "without a route it is the plain layer"
        weight, bias = self.matrix, self.bias
        flat = input.reshape(-1, self.in_features)  # [N, I]
        output = linear(flat, self._operand, bias)  # [N, O]
        if isinstance(route, str):
            output = self._part(route).apply_to(output, flat, weight, bias)
        else:
            for name, tokens in route:
                if name in self.adapters and len(tokens):
                    adapted = self._part(name).apply_to(output[tokens], flat[tokens], weight, bias)
                    output = output.index_copy_(0, tokens, adapted)
        output = output.view(*input.shape[:-1], self.out_features)
        return output if activation is None else ACTIVATIONS[activation](output)

    def _part(self, name: str) -> LoRA:
        part = self.adapters[name]
        assert isinstance(part, LoRA)
        return part

    def remove(self, name: str) -> None:
        """Forget adapter `name`, if the layer carries it."""
        if name in self.adapters:
            del self.adapters[name]

    def merge(self, name: str) -> None:
        """Put the adapted weight in the weight's place. The old one is kept, so that `unmerge` is exact."""
        if self._before_merge is not None or name not in self.adapters:
            return
        before, dtype = self.weight, self.matrix.dtype
        self.weight = nn.Parameter(self._part(name).merged(self.matrix).to(dtype), requires_grad=False)
        self._before_merge = (before,)

    def unmerge(self) -> None:
        """Restore the weight, the same object as before."""
        if self._before_merge is not None:
            (self.weight,) = self._before_merge
            self._before_merge = None


class AdaptedEmbedding(nn.Embedding):
    """An embedding with any number of adapters, each of which may bring rows of its own behind the table's."""

    def __init__(self, base: nn.Embedding, routing: AdapterRouting) -> None:
        super().__init__(base.num_embeddings, base.embedding_dim, _weight=base.weight)
        self.weight = base.weight
        self.adapters = nn.ModuleDict()
        self.virtual_tokens = nn.ParameterDict()
        self.routing = routing
        self.train(base.training)

    def forward(self, input: Tensor) -> Tensor:
        """Ids [...] -> [..., D]; those from V on are virtual tokens of the routed adapter."""
        route = self.routing.route
        if route is None:
            return super().forward(input)
        flat = input.reshape(-1)  # [N]
        known = flat.clamp(max=self.num_embeddings - 1) if len(self.virtual_tokens) else flat
        output = F.embedding(known, self.weight)  # [N, D]
        if isinstance(route, str):
            output = self._adapted(route, output, flat)
        else:
            for name, tokens in route:
                if len(tokens):
                    output = output.index_copy(0, tokens, self._adapted(name, output[tokens], flat[tokens]))
        return output.view(*input.shape, self.embedding_dim)

    def _adapted(self, name: str, output: Tensor, ids: Tensor) -> Tensor:
        if name in self.adapters:
            part = self.adapters[name]
            assert isinstance(part, LoRA)
            output = part.apply_to_rows(output, ids, self.weight)
        if name in self.virtual_tokens:
            beyond = ids - self.num_embeddings
            rows = F.embedding(beyond.clamp(min=0), self.virtual_tokens[name].to(output.dtype))
            output = torch.where(beyond[:, None] >= 0, rows, output)
        return output

    def remove(self, name: str) -> None:
        """Forget adapter `name`, if the embedding carries it."""
        for parts in (self.adapters, self.virtual_tokens):
            if name in parts:
                del parts[name]
