"""The backend that runs anywhere: the network's own modules, eagerly, on a flat batch of tokens.

All chunks of a step stand one after the other in one batch [N], so that no padding is computed; only attention, which
needs the tokens of a sequence together, runs group by group of chunks of equal length. The sources of an
encoder-decoder run through its encoder in the same way. Shapes as in `germinal.layers`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

import torch
from torch import Tensor

from germinal.generation.backends.backend import NUM_SLOTS, Chunk, Source, StepBatch
from germinal.layers.attention import Attention, AttentionView, CrossAttention, attend
from germinal.layers.cache import KVCache
from germinal.layers.linear import Route, adapter_routing
from germinal.layers.masks import add_bias
from germinal.layers.positions import Positions
from germinal.models.transformer import Transformer


class TorchBackend:
    """Runs a `Transformer` with a key-value cache, and a second one for what its encoder has read.

    Args:
        network: The network, on its device and in its precision.
        num_slots: Sequences held at once.
    """

    def __init__(self, network: Transformer, num_slots: int = NUM_SLOTS) -> None:
        config = network.config
        self.network = network
        self.num_slots = num_slots
        self.context_window = config.max_position_embeddings
        sizes = (config.num_layers, config.num_kv_heads, config.head_dim, num_slots, network.dtype, network.device)
        self._cache = KVCache(*sizes)
        self._memory = KVCache(*sizes)
        self._lengths: dict[int, int] = {}
        self._sources: dict[int, Source] = {}

    @torch.inference_mode()
    def encode(self, sources: Sequence[Source]) -> None:
        """See `Backend.encode`."""
        assert self.network.decoder is not None
        self._memory.reserve(max(len(source.token_ids) for source in sources), self._memory_lengths())
        view = SourceView(self._memory, sources, self.network.device)
        with adapter_routing(self.network).using(_route(view.sources, self.network.device)):
            encoded = self.network.encode(view.input_ids, view)  # [N, D]
            for layer, block in enumerate(self.network.decoder.layers):
                key, value = cast("CrossAttention", block.cross_attention).project(encoded)  # [N, K, E] each
                self._memory.write(layer, view.places, key, value)
        self._sources |= {source.slot: source for source in sources}

    @torch.inference_mode()
    def forward(self, batch: StepBatch) -> Tensor:
        """See `Backend.forward`."""
        view = CachedView(self._cache, batch, self.network.device, self._memory, self._memory_lengths())
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
        encoded = self._sources.get(source)
        if encoded is not None and self._sources.get(target) is not encoded:  # beams of one search have it already
            self._memory.copy(source, target, len(encoded.token_ids))
            self._sources[target] = encoded

    def truncate(self, slot: int, length: int) -> None:
        """See `Backend.truncate`."""
        self._lengths[slot] = min(length, self._lengths.get(slot, 0))

    def free(self, slot: int) -> None:
        """See `Backend.free`."""
        self._lengths.pop(slot, None)
        self._sources.pop(slot, None)

    def weights_changed(self) -> None:
        """See `Backend.weights_changed`. The weights are the network's own: there is nothing to read anew."""

    def _memory_lengths(self) -> dict[int, int]:
        return {slot: len(source.token_ids) for slot, source in self._sources.items()}


class SourceView(AttentionView):
    """The attention view of an encoder that reads the sources of several sequences, each token all of its own source.

    Attributes:
        sources: The sources in the order of the flat batch: by length, then slot.
        input_ids, position_ids: [N].
        places: Those of the tokens in the cache.
    """

    def __init__(self, cache: KVCache, sources: Sequence[Source], device: torch.device) -> None:
        super().__init__()
        self.sources = sorted(sources, key=lambda source: (len(source.token_ids), source.slot))
        ids = [token for source in self.sources for token in source.token_ids]
        positions = [position for source in self.sources for position in range(len(source.token_ids))]
        slots = [source.slot for source in self.sources for _ in source.token_ids]
        self.input_ids, self.position_ids, slot_ids = torch.tensor([ids, positions, slots], device=device)
        self.places = cache.places(slot_ids, self.position_ids)
        by_length: dict[int, int] = defaultdict(int)
        for source in self.sources:
            by_length[len(source.token_ids)] += 1
        self._groups = list(by_length.items())

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, attention: Attention) -> Tensor:
        """[N, H, E], [N, K, E] twice -> [N, H, E]."""
        attended, first = [], 0
        for length, count in self._groups:
            tokens = slice(first, first + length * count)
            heads = (each[tokens].view(count, length, *each.shape[1:]).transpose(1, 2) for each in (query, key, value))
            mask = self.cached(
                ("mask", length, attention.window, attention.positions), partial(self._mask, length, attention)
            )
            attended.append(attend(*heads, scale=attention.scale, mask=mask).transpose(1, 2).flatten(0, 1))
            first = tokens.stop
        return attended[0] if len(attended) == 1 else torch.cat(attended)

    def attend_memory(self, layer: int, query: Tensor, attention: CrossAttention) -> Tensor:
        """An encoder has no cross-attention."""
        raise AssertionError("an encoder has no cross-attention")

    def _mask(self, length: int, attention: Attention) -> Tensor | None:
        """Who sees whom in a source of `length` tokens, [1, 1 or H, S, S], with the positions' bias; None when all."""
        places = torch.arange(length, device=self.position_ids.device)[None]
        visible = None
        if attention.window is not None and length > attention.window:
            visible = ((places[:, :, None] - places[:, None]).abs() < attention.window)[:, None]
        return add_bias(visible, attention.positions.bias(places, places))


@dataclass(frozen=True, slots=True)
class _Group:
    """Chunks of equal length, attended in one call.

    Attributes:
        tokens: Where they stand in the flat batch.
        slots: Their slots.
        start: The first position of any query.
        length: Positions that are kept of each slot, up to the last query's.
        query_positions, key_positions: [B, T], [B, S].
        plain: Every query sees every key.
    """

    tokens: slice
    slots: list[int]
    start: int
    length: int
    query_positions: Tensor
    key_positions: Tensor
    plain: bool

    def first_key(self, window: int | None) -> int:
        """The first position that any query sees."""
        return 0 if window is None else max(0, self.start - window + 1)


class CachedView(AttentionView):
    """The attention view of one step: which tokens of the flat batch belong together, and where their past lies.

    Args:
        cache: Keys and values of self-attention, by slot.
        batch: The step's chunks.
        device: Of the network.
        memory: Keys and values of cross-attention, by slot; empty where there is no encoder.
        memory_lengths: Tokens of each slot's source.

    Attributes:
        chunks: The chunks in the order of the flat batch: by length, then slot.
        input_ids, position_ids: [N].
    """

    def __init__(
        self,
        cache: KVCache,
        batch: StepBatch,
        device: torch.device,
        memory: KVCache,
        memory_lengths: Mapping[int, int],
    ) -> None:
        super().__init__()
        self._cache = cache
        self._device = device
        self._memory = memory
        self._memory_lengths = memory_lengths
        self.chunks = sorted(batch, key=lambda chunk: (len(chunk.token_ids), chunk.slot))
        ids = [token for chunk in self.chunks for token in chunk.token_ids]
        positions = [position for chunk in self.chunks for position in range(chunk.start, chunk.end)]
        slots = [chunk.slot for chunk in self.chunks for _ in chunk.token_ids]
        self.input_ids, self.position_ids, slot_ids = torch.tensor([ids, positions, slots], device=device)
        self._places = cache.places(slot_ids, self.position_ids)
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
            start = min(chunk.start for chunk in chunks)
            groups.append(_Group(tokens, slots, start, len(keys), queries, keys.expand(len(chunks), -1), plain))
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
        masks = self.cached(
            ("masks", attention.window, attention.positions),
            lambda: [_mask(group, attention.window, attention.positions) for group in self._groups],
        )
        attended = []
        for group, mask in zip(self._groups, masks, strict=True):
            first = group.first_key(attention.window)
            keys, values = self._cache.read(layer, group.slots, group.length, first)
            attended.append(_attend_group(group, query, keys, values, attention.scale, mask))
        return attended[0] if len(attended) == 1 else torch.cat(attended)

    def attend_memory(self, layer: int, query: Tensor, attention: CrossAttention) -> Tensor:
        """[N, H, E] -> [N, H, E], each token over the source of its own sequence."""
        parts = self.cached("memory", lambda: [self._memory_part(group) for group in self._groups])
        attended = []
        for group, (longest, mask) in zip(self._groups, parts, strict=True):
            keys, values = self._memory.read(layer, group.slots, longest)
            attended.append(_attend_group(group, query, keys, values, attention.scale, mask))
        return attended[0] if len(attended) == 1 else torch.cat(attended)

    def _memory_part(self, group: _Group) -> tuple[int, Tensor | None]:
        """Length S of a group's longest source, and which tokens of its sources are real, [B, 1, 1, S]; None: all."""
        lengths = [self._memory_lengths[slot] for slot in group.slots]
        longest = max(lengths)
        if min(lengths) == longest:
            return longest, None
        ends = torch.tensor(lengths, device=self._device)
        return longest, (torch.arange(longest, device=self._device) < ends[:, None])[:, None, None]


def _attend_group(
    group: _Group, query: Tensor, keys: Tensor, values: Tensor, scale: float, mask: Tensor | None
) -> Tensor:
    """A group's tokens out of a flat query [N, H, E], over keys and values [B, K, S, E] -> [B T, H, E]."""
    queries = query[group.tokens].view(*group.query_positions.shape, *query.shape[1:]).transpose(1, 2)
    heads = attend(queries, keys, values, scale=scale, mask=mask)  # [B, H, T, E]
    return heads.transpose(1, 2).flatten(0, 1)


def _mask(group: _Group, window: int | None, positions: Positions) -> Tensor | None:
    """Which of the keys that are read each query of a group sees, [B, 1, T, S], with the positions' bias in it; None
    when all.
    """
    visible = None
    keys = group.key_positions[:, group.first_key(window) :]  # [B, S]
    distances = group.query_positions[..., None] - keys[:, None]  # [B, T, S]
    if window is not None and keys.shape[1] > window:
        visible = ((distances >= 0) & (distances < window))[:, None]
    elif not group.plain:
        visible = (distances >= 0)[:, None]
    return add_bias(visible, positions.bias(group.query_positions, keys))


def _route(chunks: Sequence[Chunk] | Sequence[Source], device: torch.device) -> Route:
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
