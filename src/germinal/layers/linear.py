"""Linear layers that can carry low-rank adapters, and the routing that says which tokens go through which adapter.

LoRA (Hu et al. 2021, arXiv 2106.09685, eq. 3): h = W x + s B A x, with W frozen, A [R, I] and B [O, R] trained, and
s = alpha / R, or alpha / sqrt(R) (rank-stabilised: Kalajdzievski 2023, arXiv 2312.03732).

An `AdaptedLinear` is an `nn.Linear` that keeps the weight, the bias and the names of the layer it replaces, so that
weight rules, checkpoints and packing backends see no difference. A and B stay in float32 whatever the base's precision,
because an optimiser's steps would be lost in bfloat16; they are applied in the activations' precision, as in autocast.

Shapes: N tokens of a flat batch, I in_features, O out_features, R rank.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from germinal.errors import SettingError, nearest
from germinal.layers.activations import ACTIVATIONS
from germinal.layers.kernels import linear, packed
from germinal.layers.lora_config import ALL_LINEAR, LoRAConfig

Route = str | Sequence[tuple[str, Tensor]] | None
"""One adapter for all tokens; or pairs of an adapter and the indices of its tokens in the flat batch; or None."""


class LoRA(nn.Module):
    """The update s B A x of one adapter on one layer. B starts at zero, so that a fresh adapter changes nothing."""

    def __init__(
        self, in_features: int, out_features: int, config: LoRAConfig, device: torch.device | None = None
    ) -> None:
        super().__init__()
        self.A = nn.Parameter(torch.zeros(config.rank, in_features, dtype=torch.float32, device=device))
        self.B = nn.Parameter(torch.zeros(out_features, config.rank, dtype=torch.float32, device=device))
        self.scaling = config.scaling
        self.dropout = config.dropout

    def initialise(self, generator: torch.Generator | None = None) -> None:
        """Draw A as `nn.Linear` does (uniform within 1 / sqrt(I)), and set B to zero."""
        bound = 1 / math.sqrt(self.A.shape[1])
        with torch.no_grad():
            drawn = torch.empty(self.A.shape, dtype=torch.float32).uniform_(-bound, bound, generator=generator)
            self.A.copy_(drawn)
            self.B.zero_()

    def add_to(self, output: Tensor, input: Tensor) -> Tensor:
        """Add the update of `input` [N, I] to `output` [N, O], in place and in one fused product."""
        dropped = F.dropout(input, self.dropout, training=True) if self.dropout and self.training else input
        inner = F.linear(dropped, self.A.to(input.dtype))  # [N, R]
        return output.addmm_(inner, self.B.to(input.dtype).t(), alpha=self.scaling)

    def weight_update(self) -> Tensor:
        """s B A [O, I]: what merging adds to the weight."""
        return self.scaling * (self.B.detach() @ self.A.detach())


class AdapterRouting:
    """Which adapter the tokens of the current batch go through. The adapted layers of a network share one routing, and
    whoever runs the network sets it.

    Attributes:
        route: See `Route`. Token indices are those of the batch flattened to [N, ...].
        adapters: The adapters that the network carries, with their configurations.
        merged: The adapter that the weights now contain, if any.
    """

    def __init__(self) -> None:
        self.route: Route = None
        self.adapters: dict[str, LoRAConfig] = {}
        self.merged: str | None = None

    @contextmanager
    def using(self, route: Route) -> Iterator[None]:
        """Route the tokens of the batches that are run inside the `with`.

        Raises:
            SettingError: the network has no such adapter, or another one is merged into its weights.
        """
        names = [] if route is None else [route] if isinstance(route, str) else [name for name, _ in route]
        for name in names:
            self.require(name)
            if self.merged not in (None, name):
                raise SettingError(f"adapter '{self.merged}' is merged into the weights.", where=f"adapter '{name}'")
        before, self.route = self.route, route
        try:
            yield
        finally:
            self.route = before

    def require(self, name: str) -> LoRAConfig:
        """The configuration of adapter `name`; a SettingError when the network has no such adapter."""
        if name not in self.adapters:
            hint = nearest(name, list(self.adapters)) if self.adapters else "None is loaded."
            raise SettingError("the model has no such adapter.", where=f"adapter '{name}'", hint=hint)
        return self.adapters[name]


class Linear(nn.Linear):
    """torch's linear layer, computed by this package's kernels."""

    _packed: Tensor | None = None

    def reset_parameters(self) -> None:
        """Draw random weights; not on the meta device, where torch takes long to draw none."""
        if not self.weight.is_meta:
            super().reset_parameters()

    def forward(self, input: Tensor, activation: str | None = None) -> Tensor:
        """[..., I] -> [..., O]; `activation` is a name in `ACTIVATIONS`, applied to the output."""
        return linear(input, self.weight if self._packed is None else self._packed, self.bias, activation)


@contextmanager
def packed_weights(network: nn.Module) -> Iterator[None]:
    """Inside the `with`, keep a second copy of the linear layers' weights in the layout that the kernels need, which
    saves some 5% of a pass over many tokens. For inference only; the weights must not change meanwhile.
    """
    layers = [module for module in network.modules() if isinstance(module, Linear)]
    try:
        for layer in layers:
            layer._packed = packed(layer.weight)
        yield
    finally:
        for layer in layers:
            layer._packed = None


class AdaptedLinear(nn.Linear):
    """A linear layer with any number of adapters. Without a route it computes the same as the layer it replaced."""

    def __init__(self, base: nn.Linear, routing: AdapterRouting) -> None:
        super().__init__(
            base.in_features, base.out_features, bias=base.bias is not None, device="meta", dtype=base.weight.dtype
        )
        self.weight = base.weight
        self.bias = base.bias
        self.adapters = nn.ModuleDict()
        self.routing = routing
        self._before_merge: tuple[Tensor] | None = (
            None  # in a tuple, so that it is not one more parameter of the network
        )
        self.train(base.training)

    def forward(self, input: Tensor, activation: str | None = None) -> Tensor:
        """As `Linear.forward`, with the routed adapters' updates before the activation."""
        route = self.routing.route
        if route is None or self._before_merge is not None:
            return linear(input, self.weight, self.bias, activation)
        flat = input.reshape(-1, self.in_features)  # [N, I]
        output = linear(flat, self.weight, self.bias)  # [N, O]
        if isinstance(route, str):
            if route in self.adapters:
                output = self._adapter(route).add_to(output, flat)
        else:
            for name, tokens in route:
                if name in self.adapters and len(tokens):
                    output = output.index_copy_(0, tokens, self._adapter(name).add_to(output[tokens], flat[tokens]))
        output = output.view(*input.shape[:-1], self.out_features)
        return output if activation is None else ACTIVATIONS[activation](output)

    def _adapter(self, name: str) -> LoRA:
        adapter = self.adapters[name]
        assert isinstance(adapter, LoRA)
        return adapter

    def merge(self, name: str) -> None:
        """Add the update of adapter `name` to the weight. The old weight is kept, so that `unmerge` is exact."""
        if self._before_merge is not None or name not in self.adapters:
            return
        base, update = self.weight, self._adapter(name).weight_update()
        self.weight = nn.Parameter((base.detach().float() + update).to(base.dtype), requires_grad=False)
        self._before_merge = (base,)

    def unmerge(self) -> None:
        """Restore the weight, the same object as before."""
        if self._before_merge is not None:
            (self.weight,) = self._before_merge
            self._before_merge = None


def adapted_layers(network: nn.Module) -> dict[str, AdaptedLinear]:
    """The layers of `network` that can carry adapters, by name."""
    return {name: module for name, module in network.named_modules() if isinstance(module, AdaptedLinear)}


def adapter_routing(network: nn.Module) -> AdapterRouting:
    """The routing that the adapted layers of `network` share: always the same object, with or without adapters."""
    routing = network.__dict__.setdefault("_adapter_routing", AdapterRouting())
    assert isinstance(routing, AdapterRouting)
    return routing


def network_adapters(network: nn.Module) -> dict[str, LoRAConfig]:
    """The adapters that `network` carries, with their configurations."""
    return dict(adapter_routing(network).adapters)


def matching_layers(network: nn.Module, config: LoRAConfig) -> list[str]:
    """The names of the linear layers that `config` selects, in the network's order.

    Raises:
        SettingError: a target module or a block index is not in the network.
    """
    linears = [name for name, module in network.named_modules() if isinstance(module, nn.Linear)]
    known = sorted({name.rpartition(".")[2] for name in linears})
    for target in config.target_modules:
        if target != ALL_LINEAR and not any(_matches(name, target) for name in linears):
            raise SettingError(
                "the model has no such layer.", where=f"target_modules: '{target}'", hint=nearest(target, known)
            )
    targeted = [name for name in linears if any(_matches(name, target) for target in config.target_modules)]
    if config.layers is None:
        return targeted
    absent = set(config.layers) - {_block_index(name) for name in targeted}
    if absent:
        raise SettingError(f"no adapted block has index {min(absent)}.", where="layers")
    return [name for name in targeted if _block_index(name) in config.layers]


def _matches(name: str, target: str) -> bool:
    if target == ALL_LINEAR:
        return name != "lm_head"
    return name == target or name.endswith(f".{target}")


def _block_index(name: str) -> int | None:
    """The number in a layer's name: 3 of decoder.layers.3.self_attention.q_proj."""
    return next((int(part) for part in name.split(".") if part.isdigit()), None)


def add_adapter(
    network: nn.Module,
    name: str,
    config: LoRAConfig,
    *,
    seed: int = 0,
    layers: Collection[str] | None = None,
) -> dict[str, LoRA]:
    """Give `network` a fresh adapter, in place. Its outputs change only once the adapter is trained and routed.

    Args:
        network: The linear layers that `config` selects become `AdaptedLinear`; other modules stay the same objects.
        name: The adapter's name in routes.
        config: Rank, scale and layers of the adapter.
        seed: Of the random initialisation.
        layers: Names of the layers to adapt, where a file names them; by default those that `config` selects.

    Returns:
        The adapter's part on each layer, by the layer's name.

    Raises:
        SettingError: the name is taken, or `config` names a layer that the network lacks.
    """
    routing = adapter_routing(network)
    if not name or "." in name:
        raise SettingError("must be a non-empty name without dots.", where=f"adapter '{name}'")
    if name in routing.adapters:
        raise SettingError("the model already has an adapter of this name.", where=f"adapter '{name}'")
    generator = torch.Generator().manual_seed(seed)
    parts: dict[str, LoRA] = {}
    for layer_name in matching_layers(network, config) if layers is None else layers:
        layer = _adapted(network, layer_name, routing)
        part = LoRA(layer.in_features, layer.out_features, config, layer.weight.device)
        part.initialise(generator)
        part.train(layer.training)
        layer.adapters[name] = part
        parts[layer_name] = part
    routing.adapters[name] = config
    return parts


def _adapted(network: nn.Module, name: str, routing: AdapterRouting) -> AdaptedLinear:
    """Layer `name` of `network`, replaced by an `AdaptedLinear` first if it is a plain one."""
    parent_name, _, child = name.rpartition(".")
    parent = network.get_submodule(parent_name)
    layer = getattr(parent, child)
    if isinstance(layer, AdaptedLinear):
        return layer
    adapted = AdaptedLinear(layer, routing)
    setattr(parent, child, adapted)
    return adapted


def remove_adapter(network: nn.Module, name: str) -> None:
    """Remove adapter `name` from `network`; if it is merged, it is unmerged first."""
    routing = adapter_routing(network)
    routing.require(name)
    if routing.merged == name:
        unmerge_adapter(network)
    for layer in adapted_layers(network).values():
        if name in layer.adapters:
            del layer.adapters[name]
    del routing.adapters[name]


def merge_adapter(network: nn.Module, name: str) -> None:
    """Add adapter `name` to the weights, so that the network computes the same as with the adapter, at no extra cost.

    Raises:
        SettingError: no such adapter, or another one is merged.
    """
    routing = adapter_routing(network)
    routing.require(name)
    if routing.merged not in (None, name):
        raise SettingError(f"adapter '{routing.merged}' is merged into the weights.", where=f"adapter '{name}'")
    for layer in adapted_layers(network).values():
        layer.merge(name)
    routing.merged = name


def unmerge_adapter(network: nn.Module) -> None:
    """Restore the weights, bit for bit, to what they were before `merge_adapter`."""
    for layer in adapted_layers(network).values():
        layer.unmerge()
    adapter_routing(network).merged = None


def adapter_parts(network: nn.Module, name: str) -> dict[str, LoRA]:
    """The parts of adapter `name`, by the names of their layers."""
    adapter_routing(network).require(name)
    return {
        layer_name: layer._adapter(name)
        for layer_name, layer in adapted_layers(network).items()
        if name in layer.adapters
    }


def base_state_dict(network: nn.Module) -> dict[str, Tensor]:
    """The state dict of the network without its adapters; a merged adapter is part of the weights."""
    ours = tuple(f"{name}.adapters." for name in adapted_layers(network))
    return {name: tensor for name, tensor in network.state_dict().items() if not name.startswith(ours)}
