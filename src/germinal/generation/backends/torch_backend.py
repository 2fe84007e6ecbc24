"""The backend that runs anywhere: the network's own modules, eagerly, on a flat batch of tokens.

All chunks of a step stand one after the other in one batch [N], so that no padding is computed; only attention, which
needs the tokens of a sequence together, runs group by group of chunks of equal length. Shapes as in `germinal.layers`.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import torch
from torch import Tensor

from germinal.errors import UnsupportedError
from germinal.generation.backends.backend import Chunk, StepBatch
from germinal.layers.attention import Attention, AttentionView, CrossAttention, add_bias, attend
from germinal.layers.cache import KVCache
from germinal.layers.linear import Route, adapter_routing
from germinal.layers.positions import Positions
from germinal.models.transformer import Transformer


class TorchBackend:
    """Runs a `Transformer` with a key-value cache.

    Args:
        network: The network, on its device and in its precision.
        num_slots: Sequences held at once.
    """

    def __init__(self, network: Transformer, num_slots: int = 32) -> None:
        config = network.config
        self.network = network
        self.num_slots = num_slots
        self.context_window = config.max_position_embeddings
        self._lengths: dict[int, int] = {}
        self._cache = KVCache(
            config.num_layers, config.num_kv_heads, config.head_dim, num_slots, network.dtype, network.device
        )

    @torch.inference_mode()
    def forward(self, batch: StepBatch) -> Tensor:
        """See `Backend.forward`."""
        view = CachedView(self._cache, batch, self.network.device)
        with adapter_routing(self.network).using(_route(view.chunks, self.network.device)):
            hidden_states = self.network.hidden_states(view.input_ids, view)  # [N, D]
        for chunk in batch:
            self._lengths[chunk.slot] = chunk.end
        return self.network.logits(hidden_states[view.wanted(batch)]).float()

    def reserve(self, capacity: int) -> None:
        """See `Backend.reserve`."""
        self._cache.reserve(capacity, self._lengths)

    def fork(self, source: int, target: int, length: int) -> None:
        """See `Backend.fork`."""
        self._cache.copy(source, target, length)
        self._lengths[target] = length

    def truncate(self, slot: int, length: int) -> None:
        """See `Backend.truncate`."""
        self._lengths[slot] = min(length, self._lengths.get(slot, 0))

    def free(self, slot: int) -> None:
        """See `Backend.free`."""
        self._lengths.pop(slot, None)

    def weights_changed(self) -> None:
        """See `Backend.weights_changed`. The weights are the network's own; what was computed with them is stale."""
        self._lengths.clear()


@dataclass(frozen=True, slots=True)
class _Group:
    """Chunks of equal length, attended in one call."""

    tokens: slice
    slots: list[int]
    length: int
    query_positions: Tensor
    key_positions: Tensor
    plain: bool


class CachedView(AttentionView):
    """The attention view of one step: which tokens of the flat batch belong together, and where their past lies.

    Attributes:
        chunks: The chunks in the order of the flat batch: by length, then slot.
        input_ids, position_ids: [N].
    """

    def __init__(self, cache: KVCache, batch: StepBatch, device: torch.device) -> None:
        super().__init__()
        self._cache = cache
        self._device = device
        self.chunks = sorted(batch, key=lambda chunk: (len(chunk.token_ids), chunk.slot))
        ids = [token for chunk in self.chunks for token in chunk.token_ids]
        positions = [position for chunk in self.chunks for position in range(chunk.start, chunk.end)]
        firsts = [chunk.slot * cache.capacity for chunk in self.chunks for _ in chunk.token_ids]
        self.input_ids, self.position_ids, bases = torch.tensor([ids, positions, firsts], device=device)
        self._places = bases + self.position_ids
        self._groups = self._group()

    def _group(self) -> list[_Group]:
        by_length: dict[int, list[Chunk]] = defaultdict(list)
        for chunk in self.chunks:
            by_length[len(chunk.token_ids)].append(chunk)
        groups, first = [], 0
        for length, chunks in by_length.items():
            tokens = slice(first, first + length * len(chunks))
            queries = self.position_ids[tokens].view(len(chunks), length)
            keys = torch.arange(max(chunk.end for chunk in chunks), device=self._device)
            # A single token sees all of its past: with one past length for all, there is nothing to mask.
            plain = length == 1 and len({chunk.end for chunk in chunks}) == 1
            slots = [chunk.slot for chunk in chunks]
            groups.append(_Group(tokens, slots, len(keys), queries, keys.expand(len(chunks), -1), plain))
            first = tokens.stop
        return groups

    def wanted(self, batch: StepBatch) -> Tensor:
        """Indices in the flat batch of the tokens whose logits are wanted, in the order of `batch`."""
        ends, end = {}, 0
        for chunk in self.chunks:
            end += len(chunk.token_ids)
            ends[chunk.slot] = end
        rows = [row for chunk in batch for row in range(ends[chunk.slot] - chunk.num_logits, ends[chunk.slot])]
        return torch.tensor(rows, dtype=torch.long, device=self._device)

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, attention: Attention) -> Tensor:
        """[N, H, E], [N, K, E] twice -> [N, H, E], after keeping the new keys and values."""
        self._cache.write(layer, self._places, key, value)
        masks = self.keep(
            ("masks", attention.window, attention.positions),
            lambda: [_mask(group, attention.window, attention.positions) for group in self._groups],
        )
        attended = []
        for group, mask in zip(self._groups, masks, strict=True):
            queries = query[group.tokens].view(*group.query_positions.shape, *query.shape[1:]).transpose(1, 2)
            keys, values = self._cache.read(layer, group.slots, group.length)
            heads = attend(queries, keys, values, scale=attention.scale, mask=mask)  # [B, H, T, E]
            attended.append(heads.transpose(1, 2).flatten(0, 1))
        return attended[0] if len(attended) == 1 else torch.cat(attended)

    def attend_memory(self, layer: int, query: Tensor, attention: CrossAttention) -> Tensor:
        """See `AttentionView.attend_memory`."""
        raise UnsupportedError("an encoder-decoder cannot be generated from yet.")


def _mask(group: _Group, window: int | None, positions: Positions) -> Tensor | None:
    """Which keys each query of a group sees, [B, 1, T, S], with the positions' bias in it; None when all."""
    visible = None
    distances = group.query_positions[..., None] - group.key_positions[:, None]  # [B, T, S]
    if window is not None and group.length > window:
        visible = ((distances >= 0) & (distances < window))[:, None]
    elif not group.plain:
        visible = (distances >= 0)[:, None]
    return add_bias(visible, positions.bias(group.query_positions, group.key_positions))


def _route(chunks: list[Chunk], device: torch.device) -> Route:
    """The adapters of a flat batch: None, one name for all tokens, or the token indices of each name."""
    names = {chunk.adapter for chunk in chunks}
    if len(names) == 1:
        return names.pop()
    tokens: dict[str, list[int]] = defaultdict(list)
    index = 0
    for chunk in chunks:
        if chunk.adapter is not None:
            tokens[chunk.adapter].extend(range(index, index + len(chunk.token_ids)))
        index += len(chunk.token_ids)
    return [(name, torch.tensor(indices, device=device)) for name, indices in tokens.items()]
