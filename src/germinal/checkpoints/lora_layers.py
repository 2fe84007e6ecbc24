"""The layers of a network as they are published: each is one of ours, or fuses several of ours.

An adapter of a fused layer has one A, which all of ours share, and a B with the rows of all. Adapters that were trained
on ours separately have different A's: to fuse them, the A's are stacked and each B gets its own columns, which is the
same update at a larger rank.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from germinal.layers.adapters import HEAD
from germinal.layers.lora import LoRA
from germinal.models.families import Family
from germinal.models.transformer import Transformer
from germinal.models.weight_rules import Transform


@dataclass(frozen=True, slots=True)
class PublishedLayer:
    """A linear layer or an embedding as published.

    Attributes:
        name: Its published name.
        ours: The out_features of each of our layers that it fuses, or of the one that it is.
        in_features: I; of an embedding V.
        rows: The transform from the rows of its B to those of ours.
        is_embedding: Whether it is an embedding.
    """

    name: str
    ours: Mapping[str, int]
    in_features: int
    rows: Transform
    is_embedding: bool

    @property
    def out_features(self) -> int:
        return sum(self.ours.values())

    @property
    def by_default(self) -> bool:
        """Whether "all-linear" means it."""
        return not self.is_embedding and HEAD not in self.ours

    def fuse(self, parts: Mapping[str, LoRA]) -> LoRA:
        """Our layers' parts, which have n different A's [R, I], as one with A [n R, I]. Some may have no part."""
        first = next(parts[layer] for layer in self.ours if layer in parts)
        downs = _distinct(parts[layer].A.detach() for layer in self.ours if layer in parts)
        ups = [
            torch.cat([_up(parts.get(layer), down, first, out_features) for down in downs], dim=1)
            for layer, out_features in self.ours.items()
        ]
        rank = sum(len(down) for down in downs)
        grown = rank / first.rank
        alpha = first.alpha * (math.sqrt(grown) if first.use_rslora else grown)
        fused = LoRA(
            self.in_features,
            self.out_features,
            rank=rank,
            alpha=alpha,
            use_rslora=first.use_rslora,
            dropout=first.dropout,
        )
        fused.A.data, fused.B.data = torch.cat(downs), self.rows.to_theirs(*ups)
        if first.magnitude is not None:
            magnitudes = [parts[layer].magnitude for layer in self.ours]
            fused.magnitude = self.rows.to_theirs(*(each for each in magnitudes if each is not None))
        return fused

    def split(self, fused: LoRA) -> dict[str, LoRA]:
        """The parts of our layers, which share A."""
        ups = self.rows.to_ours(fused.B.detach())
        magnitudes = [None] * len(ups) if fused.magnitude is None else self.rows.to_ours(fused.magnitude)
        parts: dict[str, LoRA] = {}
        for (layer, out_features), up, magnitude in zip(self.ours.items(), ups, magnitudes, strict=True):
            parts[layer] = LoRA(
                self.in_features,
                out_features,
                rank=fused.rank,
                alpha=fused.alpha,
                use_rslora=fused.use_rslora,
                dropout=fused.dropout,
            )
            parts[layer].A.data, parts[layer].B.data, parts[layer].magnitude = fused.A.data.clone(), up, magnitude
        return parts


def _up(part: LoRA | None, down: Tensor, first: LoRA, out_features: int) -> Tensor:
    """The columns of a layer's B for one of the A's, with the scale of the first part."""
    if part is None or not torch.equal(part.A, down):
        return down.new_zeros(out_features, len(down))
    return part.B.detach() if part.scaling == first.scaling else part.B.detach() * (part.scaling / first.scaling)


def _distinct(tensors: Iterable[Tensor]) -> list[Tensor]:
    kept: list[Tensor] = []
    for tensor in tensors:
        if not any(torch.equal(tensor, known) for known in kept):
            kept.append(tensor)
    return kept


def published_layers(network: Transformer, family: Family) -> list[PublishedLayer]:
    """The published layers of a network's linear layers and embeddings, in the network's order.

    A layer without a published name is left out.
    """
    rules = family.hf_rules(network.config)
    kinds = nn.Linear | nn.Embedding
    ours = {f"{name}.weight": each for name, each in network.named_modules() if isinstance(each, kinds)}
    layers: dict[str, PublishedLayer] = {}
    for name, layer in ours.items():
        found = rules.theirs(name)
        if found is None:
            continue
        theirs, transform = found
        fused, _ = rules.ours(theirs) or ((name,), transform)
        layers[theirs] = PublishedLayer(
            theirs.removesuffix(".weight"),
            {each.removesuffix(".weight"): _sizes(ours[each])[1] for each in fused},
            _sizes(layer)[0],
            transform.of_rows,
            isinstance(layer, nn.Embedding),
        )
    return list(layers.values())


def _sizes(layer: nn.Module) -> tuple[int, int]:
    """I and O."""
    if isinstance(layer, nn.Embedding):
        return layer.num_embeddings, layer.embedding_dim
    assert isinstance(layer, nn.Linear)
    return layer.in_features, layer.out_features
