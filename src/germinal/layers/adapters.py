"""Adapters put on a network, routed, merged and taken off again.

Any number of adapters share one network, and the tokens of one batch may go through different ones. Only an adapter
that replaces parameters needs a pass of its own: see `needs_own_pass`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from germinal.errors import SettingError, UnsupportedError, nearest
from germinal.layers.adapted import AdaptedEmbedding, AdaptedLinear, Adapter, AdapterRouting, Replaced, Route
from germinal.layers.lora import LoRA
from germinal.layers.lora_config import ALL_LINEAR, LoRAConfig

EMBEDDING, HEAD = "embed_tokens", "lm_head"
"""The table of tokens, and the output matrix, which "all-linear" leaves out."""


def adapter_routing(network: nn.Module) -> AdapterRouting:
    """The routing that the adapted layers of `network` share: always the same object, with or without adapters."""
    routing = network.__dict__.setdefault("_adapter_routing", AdapterRouting())
    assert isinstance(routing, AdapterRouting)
    return routing


def network_adapters(network: nn.Module) -> dict[str, Adapter]:
    """The adapters that `network` carries, by name."""
    return dict(adapter_routing(network).adapters)


@contextmanager
def routed(network: nn.Module, route: Route) -> Iterator[None]:
    """Route the tokens of the batches that are run inside the `with`.

    Raises:
        SettingError: the network has no such adapter, or another one is merged into its weights.
    """
    routing = adapter_routing(network)
    names = [] if route is None else [route] if isinstance(route, str) else [name for name, _ in route]
    for name in names:
        routing.require(name)
        if routing.merged not in (None, name):
            raise SettingError(f"adapter '{routing.merged}' is merged into the weights.", where=f"adapter '{name}'")
    replaced = routing.adapters[route].replaced if isinstance(route, str) and routing.merged is None else {}
    assert replaced or isinstance(route, str) or not any(needs_own_pass(network, name) for name in names)
    before, routing.route = routing.route, route
    undo = [_replace(network, name, each) for name, each in replaced.items()]
    try:
        yield
    finally:
        for name, each in reversed(undo):
            _replace(network, name, each)
        routing.route = before


def needs_own_pass(network: nn.Module, name: str | None) -> bool:
    """Whether the tokens of adapter `name` cannot share a pass with others: it replaces parameters of the network."""
    return name is not None and bool(adapter_routing(network).require(name).replaced)


@torch.no_grad()
def _replace(network: nn.Module, name: str, other: Replaced) -> tuple[str, Replaced]:
    """Give a parameter other values, and return what undoes it: rows are written over, a whole tensor is exchanged."""
    module_name, _, own_name = name.rpartition(".")
    module = network.get_submodule(module_name)
    parameter = module._parameters[own_name]
    if other.rows is None:
        module._parameters[own_name] = other.values  # type: ignore[assignment]  # nothing trains it
        return name, Replaced(parameter)
    assert parameter is not None, "a tied layer has no rows of its own"
    assert other.values is not None, "rows come with their values"
    before = parameter[other.rows].clone()
    parameter[other.rows] = other.values.to(parameter)
    return name, Replaced(before, other.rows)


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
        return name != HEAD
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
        network: The linear layers that `config` selects become adapted ones; other modules stay the same objects.
        name: The adapter's name in routes.
        config: Rank, scale and layers of the adapter.
        seed: Of the random initialisation.
        layers: Names of the layers to adapt; by default those that `config` selects.

    Returns:
        The adapter's part on each layer, by the layer's name.

    Raises:
        SettingError: the name is taken, or `config` names a layer that the network lacks.
    """
    check_name(network, name)
    generator = torch.Generator().manual_seed(seed)
    parts: dict[str, LoRA] = {}
    for layer_name in matching_layers(network, config) if layers is None else layers:
        layer = network.get_submodule(layer_name)
        assert isinstance(layer, nn.Linear)
        parts[layer_name] = LoRA(
            layer.in_features,
            layer.out_features,
            rank=config.rank,
            alpha=config.alpha,
            use_rslora=config.use_rslora,
            dropout=config.dropout,
            device=next(network.parameters()).device,
        )
        parts[layer_name].initialise(generator)
    attach_adapter(network, name, Adapter(parts))
    return parts


def check_name(network: nn.Module, name: str) -> None:
    """Refuse a name that a new adapter of `network` cannot have.

    Raises:
        SettingError: it is empty, has dots, or is taken.
    """
    if not name or "." in name:
        raise SettingError("must be a non-empty name without dots.", where=f"adapter '{name}'")
    if name in adapter_routing(network).adapters:
        raise SettingError("the model already has an adapter of this name.", where=f"adapter '{name}'")


def attach_adapter(network: nn.Module, name: str, adapter: Adapter) -> None:
    """Put an adapter on `network`, in place, whose names and shapes are those of its layers and parameters.

    Raises:
        SettingError: the name is taken.
    """
    check_name(network, name)
    routing = adapter_routing(network)
    for layer_name, part in adapter.updates.items():
        layer = _adapted(network, layer_name, routing)
        part.train(layer.training)
        layer.adapters[name] = part
    if adapter.virtual_tokens is not None:
        table = _adapted(network, EMBEDDING, routing)
        assert isinstance(table, AdaptedEmbedding)
        table.virtual_tokens[name] = nn.Parameter(adapter.virtual_tokens, requires_grad=False)
    routing.adapters[name] = adapter


def _adapted(network: nn.Module, name: str, routing: AdapterRouting) -> AdaptedLinear | AdaptedEmbedding:
    """Layer `name` of `network`, replaced by an adapted one first if it is a plain one."""
    parent_name, _, child = name.rpartition(".")
    parent = network.get_submodule(parent_name)
    layer = getattr(parent, child)
    if isinstance(layer, AdaptedLinear | AdaptedEmbedding):
        return layer
    kind = AdaptedEmbedding if isinstance(layer, nn.Embedding) else AdaptedLinear
    adapted = kind(layer, routing)
    setattr(parent, child, adapted)
    return adapted


def remove_adapter(network: nn.Module, name: str) -> None:
    """Remove adapter `name` from `network`; if it is merged, it is unmerged first."""
    routing = adapter_routing(network)
    routing.require(name)
    if routing.merged == name:
        unmerge_adapter(network)
    for layer in adapted_layers(network).values():
        for parts in (
            (layer.adapters, layer.virtual_tokens) if isinstance(layer, AdaptedEmbedding) else (layer.adapters,)
        ):
            if name in parts:
                del parts[name]
    del routing.adapters[name]


def merge_adapter(network: nn.Module, name: str) -> None:
    """Add adapter `name` to the weights, so that the network computes the same as with the adapter, at no extra cost.

    Raises:
        SettingError: no such adapter, another one is merged, or it does more than update linear layers.
    """
    routing = adapter_routing(network)
    adapter = routing.require(name)
    if routing.merged not in (None, name):
        raise SettingError(f"adapter '{routing.merged}' is merged into the weights.", where=f"adapter '{name}'")
    layers = adapted_layers(network)
    if (
        adapter.replaced
        or adapter.virtual_tokens is not None
        or any(isinstance(layers[each], AdaptedEmbedding) for each in adapter.updates)
    ):
        raise SettingError("only updates of linear layers can be merged.", where=f"adapter '{name}'")
    for layer in layers.values():
        if isinstance(layer, AdaptedLinear):
            layer.merge(name)
    routing.merged = name


def unmerge_adapter(network: nn.Module) -> None:
    """Restore the weights, bit for bit, to what they were before `merge_adapter`."""
    for layer in adapted_layers(network).values():
        if isinstance(layer, AdaptedLinear):
            layer.unmerge()
    adapter_routing(network).merged = None


def adapted_layers(network: nn.Module) -> dict[str, AdaptedLinear | AdaptedEmbedding]:
    """The layers of `network` that can carry adapters, by name."""
    kinds = AdaptedLinear | AdaptedEmbedding
    return {name: module for name, module in network.named_modules() if isinstance(module, kinds)}


def adapter_parts(network: nn.Module, name: str) -> dict[str, LoRA]:
    """The low-rank updates of adapter `name`, by the names of their layers."""
    return dict(adapter_routing(network).require(name).updates)


def virtual_ids(network: nn.Module, name: str | None) -> tuple[int, ...]:
    """The token ids that stand before every prompt of adapter `name`: those of its virtual tokens, if it has any."""
    rows = None if name is None else adapter_routing(network).require(name).virtual_tokens
    if rows is None:
        return ()
    table = network.get_submodule(EMBEDDING)
    assert isinstance(table, nn.Embedding)
    return tuple(range(table.num_embeddings, table.num_embeddings + len(rows)))


def routed_virtual_ids(network: nn.Module) -> tuple[int, ...]:
    """The virtual tokens of the adapter that all tokens of the batch go through."""
    route = adapter_routing(network).route
    return virtual_ids(network, route) if isinstance(route, str) else ()


def refuse_virtual_tokens(network: nn.Module, name: str | None, purpose: str) -> None:
    """Refuse an adapter with virtual tokens for what is not done with them.

    Raises:
        UnsupportedError: names the adapter and the purpose.
    """
    if virtual_ids(network, name):
        raise UnsupportedError(
            f"has virtual tokens, with which a model cannot {purpose}.",
            where=f"adapter '{name}'",
            hint="It can generate and score texts, and give logits.",
        )


def base_state_dict(network: nn.Module) -> dict[str, Tensor]:
    """The state dict of the network without its adapters; a merged adapter is part of the weights."""
    ours = tuple(f"{name}.{kind}." for name in adapted_layers(network) for kind in ("adapters", "virtual_tokens"))
    return {name: tensor for name, tensor in network.state_dict().items() if not name.startswith(ours)}
