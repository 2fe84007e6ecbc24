"""The linear layers of a network as they are published: each is one of ours, or fuses several of ours.

An adapter of a fused layer has one A, which all of ours share, and a B with the rows of all. Adapters that were trained
on ours separately have different A's: to fuse them, the A's are stacked and each B gets its own columns, which is the
same update at a larger rank.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from germinal.errors import UnsupportedError
from germinal.layers.linear import LoRA
from germinal.models.families import Family
from germinal.models.transformer import Transformer
from germinal.models.weight_rules import Transform


@dataclass(frozen=True, slots=True)
class PublishedLayer:
    """A linear layer as published.

    Attributes:
        name: Its published name.
        ours: The out_features of each of our layers that it fuses, or of the one that it is.
        in_features: I.
        rows: The transform from the rows of its B to those of ours.
    """

    name: str
    ours: Mapping[str, int]
    in_features: int
    rows: Transform

    @property
    def out_features(self) -> int:
        return sum(self.ours.values())

    def fuse(self, parts: Mapping[str, LoRA]) -> tuple[Tensor, Tensor]:
        """A [n R, I] and B [O, n R] of our layers' parts, which have n different A's. Some layers may have no part."""
        downs = _distinct(parts[layer].A.detach() for layer in self.ours if layer in parts)
        ups = [
            torch.cat(
                [
                    parts[layer].B.detach()
                    if layer in parts and torch.equal(parts[layer].A, down)
                    else down.new_zeros(out_features, len(down))
                    for down in downs
                ],
                dim=1,
            )
            for layer, out_features in self.ours.items()
        ]
        return torch.cat(downs), self.rows.to_theirs(*ups)

    def split(self, down: Tensor, up: Tensor, parts: Mapping[str, LoRA]) -> None:
        """Copy A [R, I] and B [O, R] into the parts of our layers."""
        for layer, rows in zip(self.ours, self.rows.to_ours(up), strict=True):
            parts[layer].A.copy_(down)
            parts[layer].B.copy_(rows)


def _distinct(tensors: Iterable[Tensor]) -> list[Tensor]:
    kept: list[Tensor] = []
    for tensor in tensors:
        if not any(torch.equal(tensor, known) for known in kept):
            kept.append(tensor)
    return kept


def published_layers(network: Transformer, family: Family) -> list[PublishedLayer]:
    """The published layers of a network's linear layers, in the network's order.

    Raises:
        UnsupportedError: one has no published name.
    """
    rules = family.hf_rules(network.config)
    linears = {f"{name}.weight": each for name, each in network.named_modules() if isinstance(each, nn.Linear)}
    layers: dict[str, PublishedLayer] = {}
    for name, linear in linears.items():
        found = rules.theirs(name)
        if found is None:
            raise UnsupportedError("has no published name to save an adapter under.", where=name)
        theirs, transform = found
        ours, _ = rules.ours(theirs) or ((name,), transform)
        layers[theirs] = PublishedLayer(
            theirs.removesuffix(".weight"),
            {each.removesuffix(".weight"): linears[each].out_features for each in ours},
            linear.in_features,
            transform.of_rows,
        )
    return list(layers.values())
