"""The backend for any device: runs the network's own modules, eagerly, on a flat batch of tokens.

The chunks of a step, or the inputs of an encoder, are concatenated to one batch [N], so that no padding is computed.
Only attention needs the tokens of each sequence apart: it runs over one span per group of chunks of equal length.
Shapes as in `germinal.layers`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import cast

import torch
from torch import Tensor

from germinal.generation.backends.backend import NUM_SLOTS, Chunk, StepBatch
from germinal.layers.adapted import Route
from germinal.layers.adapters import needs_own_pass, routed
from germinal.layers.attention import Attention, AttentionView, CrossAttention, Span
from germinal.layers.cache import KVCache
from germinal.layers.masks import add_bias
from germinal.layers.positions import Positions
from germinal.models.transformer import Transformer


class TorchBackend:
    """Runs a `Transformer`, with one key-value cache for self-attention and one for cross-attention.

    Args:
        network: The network; its device and precision are used.
        num_slots: Number of sequences held at the same time.
    """

    def __init__(self, network: Transformer, num_slots: int = NUM_SLOTS) -> None:
        config = network.config
        self.network = network
        self.num_slots = num_slots
        self.context_window = config.max_position_embeddings
        sizes = (config.num_layers, config.num_kv_heads, config.head_dim, num_slots, network.dtype, network.device)
        self._cache = KVCache(*sizes)
        self._memory = KVCache(*sizes)
        self._encoded: dict[int, Chunk] = {}

    @torch.inference_mode()
    def encode(self, batch: StepBatch) -> None:
        """See `Backend.encode`."""
        for part in self._passes(batch):
            self._encode(part)

    def _encode(self, batch: StepBatch) -> None:
        assert self.network.decoder is not None
        self._memory.reserve(max(chunk.end for chunk in batch))
        view = EncoderView(self._memory, batch, self.network.device)
        with routed(self.network, view.route):
            encoded = self.network.encode(view.input_ids, view)  # [N, D]
            for layer, block in enumerate(self.network.decoder.layers):
                key, value = cast("CrossAttention", block.cross_attention).project(encoded)  # [N, K, E] each
                self._memory.write(layer, view.places, key, value)
        for chunk in batch:
            self._encoded[chunk.slot] = chunk
            self._memory.lengths[chunk.slot] = chunk.end

    @torch.inference_mode()
    def forward(self, batch: StepBatch) -> Tensor:
        """See `Backend.forward`."""
        passes = self._passes(batch)
        if len(passes) == 1:
            return self._forward(batch)
        logits: dict[int, Tensor] = {}
        for part in passes:
            rows = self._forward(part).split_with_sizes([chunk.num_logits for chunk in part])
            logits |= {chunk.slot: own for chunk, own in zip(part, rows, strict=True)}
        return torch.cat([logits[chunk.slot] for chunk in batch])

    def _forward(self, batch: StepBatch) -> Tensor:
        view = DecoderView(self._cache, self._memory, batch, self.network.device)
        with routed(self.network, view.route):
            hidden_states = self.network.hidden_states(view.input_ids, view)  # [N, D]
        for chunk in batch:
            self._cache.lengths[chunk.slot] = chunk.end
        # The rows that need logits are other tokens, in another order, than those of the batch.
        route = _route([chunk.adapter for chunk in batch for _ in range(chunk.num_logits)], self.network.device)
        with routed(self.network, route):
            return self.network.logits(hidden_states[view.wanted(batch)]).float()

    def _passes(self, batch: StepBatch) -> list[StepBatch]:
        """The batch in parts that can share a pass: an adapter that replaces parameters has one of its own."""
        parts: dict[str | None, list[Chunk]] = {}
        for chunk in batch:
            parts.setdefault(chunk.adapter if needs_own_pass(self.network, chunk.adapter) else None, []).append(chunk)
        return list(parts.values())

    def reserve(self, capacity: int) -> None:
        """See `Backend.reserve`."""
        self._cache.reserve(capacity)

    def fork(self, source: int, target: int, length: int) -> None:
        """See `Backend.fork`."""
        self._cache.copy(source, target, length)
        encoded = self._encoded.get(source)
        if encoded is not None and self._encoded.get(target) is not encoded:  # beams of a search share it already
            self._memory.copy(source, target, encoded.end)
            self._encoded[target] = encoded

    def weights_changed(self) -> None:
        """See `Backend.weights_changed`. Nothing is derived from the weights."""


class FlatView(AttentionView):
    """The attention of chunks that are concatenated to a flat batch.

    Args:
        cache: Where their keys and values are kept.
        batch: The chunks.
        device: The network's.

    Attributes:
        chunks: The chunks in the order of the flat batch: by length, then slot.
        input_ids, position_ids: [N].
        places: Where the tokens' heads are in the cache, [N K].
    """

    def __init__(self, cache: KVCache, batch: StepBatch, device: torch.device) -> None:
        super().__init__()
        self._device = device
        self.chunks = sorted(batch, key=lambda chunk: (len(chunk.token_ids), chunk.slot))
        ids = [token for chunk in self.chunks for token in chunk.token_ids]
        positions = [position for chunk in self.chunks for position in range(chunk.start, chunk.end)]
        slots = [chunk.slot for chunk in self.chunks for _ in chunk.token_ids]
        self.input_ids, self.position_ids, slot_ids = torch.tensor([ids, positions, slots], device=device)
        self.places = cache.places(slot_ids, self.position_ids)

    def by_length(self) -> Iterator[tuple[slice, list[Chunk]]]:
        """Each group of chunks of equal length, with its slice of the flat batch."""
        start = 0
        for length, alike in groupby(self.chunks, key=lambda chunk: len(chunk.token_ids)):
            chunks = list(alike)
            yield slice(start, start := start + length * len(chunks)), chunks

    @property
    def route(self) -> Route:
        """The adapters of the batch's tokens."""
        return _route([chunk.adapter for chunk in self.chunks for _ in chunk.token_ids], self._device)


def _route(names: Sequence[str | None], device: torch.device) -> Route:
    """None, one name for all tokens, or (name, token indices) pairs, from the adapter of each token."""
    if len(set(names)) <= 1:
        return names[0] if names else None
    tokens: dict[str, list[int]] = {}
    for token, name in enumerate(names):
        if name is not None:
            tokens.setdefault(name, []).append(token)
    return [(name, torch.tensor(indices, device=device)) for name, indices in tokens.items()]


class EncoderView(FlatView):
    """The bidirectional attention of an encoder over the inputs of several sequences."""

    def spans(self, layer: int, key: Tensor, value: Tensor, attention: Attention) -> Sequence[Span]:
        """Each input attends to itself."""
        masks = self.cached(
            ("masks", attention.window, attention.positions),
            lambda: [self._mask(chunks[0].end, attention) for _, chunks in self.by_length()],
        )
        spans = []
        for (tokens, chunks), mask in zip(self.by_length(), masks, strict=True):
            keys, values = (each[tokens].view(len(chunks), -1, *each.shape[1:]) for each in (key, value))
            spans.append(Span(keys.transpose(1, 2), values.transpose(1, 2), mask, tokens))
        return spans

    def memory_spans(self, layer: int, attention: CrossAttention) -> Sequence[Span]:
        raise AssertionError("an encoder has no cross-attention")

    def _mask(self, length: int, attention: Attention) -> Tensor | None:
        """Mask of an input of `length` tokens, including the bias of the positions: [1, 1 or H, S, S], None if not
        needed.
        """
        places = torch.arange(length, device=self._device)[None]
        visible = None
        if attention.window is not None and length > attention.window:
            visible = ((places[:, :, None] - places[:, None]).abs() < attention.window)[:, None]
        return add_bias(visible, attention.positions.bias(places, places))


class _Group:
    """Chunks of equal length, attended in one call.

    Attributes:
        tokens: Their slice of the flat batch.
        slots: Their slots.
        start: The smallest position of a query.
        query_positions, key_positions: [B, T] and [B, S].
        plain: Whether every query sees every key.
    """

    def __init__(self, tokens: slice, chunks: Sequence[Chunk], position_ids: Tensor) -> None:
        length, ends = len(chunks[0].token_ids), {chunk.end for chunk in chunks}
        self.tokens = tokens
        self.slots = [chunk.slot for chunk in chunks]
        self.start = min(chunk.start for chunk in chunks)
        self.query_positions = position_ids[tokens].view(len(chunks), length)
        self.key_positions = torch.arange(max(ends), device=position_ids.device).expand(len(chunks), -1)
        # A single query sees its whole past; if all have the same length, there is nothing to mask.
        self.plain = length == 1 and len(ends) == 1

    def first_key(self, window: int | None) -> int:
        """The smallest position that a query sees."""
        return 0 if window is None else max(0, self.start - window + 1)

    def mask(self, window: int | None, positions: Positions) -> Tensor | None:
        """Mask over the keys from `first_key` on, including the bias of the positions: [B, 1 or H, T, S], None if not
        needed.
        """
        visible = None
        keys = self.key_positions[:, self.first_key(window) :]  # [B, S]
        distances = self.query_positions[..., None] - keys[:, None]  # [B, T, S]
        if window is not None and keys.shape[1] > window:
            visible = ((distances >= 0) & (distances < window))[:, None]
        elif not self.plain:
            visible = (distances >= 0)[:, None]
        return add_bias(visible, positions.bias(self.query_positions, keys))


class DecoderView(FlatView):
    """The causal attention of a step's chunks over their cached past, and their cross-attention.

    Args:
        cache: Keys and values of self-attention.
        memory: Keys and values of cross-attention; unused without an encoder.
        batch: The chunks.
        device: The network's.
    """

    def __init__(self, cache: KVCache, memory: KVCache, batch: StepBatch, device: torch.device) -> None:
        super().__init__(cache, batch, device)
        self._cache = cache
        self._memory = memory
        self._groups = [_Group(tokens, chunks, self.position_ids) for tokens, chunks in self.by_length()]

    def wanted(self, batch: StepBatch) -> Tensor:
        """Indices in the flat batch of the tokens that need logits, in the order of `batch`."""
        ends, end = {}, 0
        for chunk in self.chunks:
            end += len(chunk.token_ids)
            ends[chunk.slot] = end
        rows = [row for chunk in batch for row in range(ends[chunk.slot] - chunk.num_logits, ends[chunk.slot])]
        return torch.tensor(rows, dtype=torch.long, device=self._device)

    def spans(self, layer: int, key: Tensor, value: Tensor, attention: Attention) -> Sequence[Span]:
        """Store the new keys and values; each chunk attends to its past and itself."""
        self._cache.write(layer, self.places, key, value)
        window, positions = attention.window, attention.positions
        masks = self.cached(
            ("masks", window, positions), lambda: [group.mask(window, positions) for group in self._groups]
        )
        spans = []
        for group, mask in zip(self._groups, masks, strict=True):
            length = group.key_positions.shape[1]
            keys, values = self._cache.read(layer, group.slots, length, group.first_key(window))
            spans.append(Span(keys, values, mask, group.tokens))
        return spans

    def memory_spans(self, layer: int, attention: CrossAttention) -> Sequence[Span]:
        """Each chunk attends to its own encoder input."""
        parts = self.cached("memory", lambda: [self._memory_part(group) for group in self._groups])
        return [
            Span(*self._memory.read(layer, group.slots, longest), mask, group.tokens)
            for group, (longest, mask) in zip(self._groups, parts, strict=True)
        ]

    def _memory_part(self, group: _Group) -> tuple[int, Tensor | None]:
        """Length S of a group's longest encoder input, and the mask [B, 1, 1, S], None if all have this length."""
        lengths = [self._memory.lengths[slot] for slot in group.slots]
        longest = max(lengths)
        if min(lengths) == longest:
            return longest, None
        ends = torch.tensor(lengths, device=self._device)
        return longest, (torch.arange(longest, device=self._device) < ends[:, None])[:, None, None]
