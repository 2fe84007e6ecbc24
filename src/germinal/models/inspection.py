"""A look inside a network: attention weights, predictions after each layer, and how it tells positions apart.

It runs one pass over one sequence; the attention function is that of every other pass, asked to keep its weights.
Results are on the CPU in float32. Shapes as in `germinal.layers`; L layers, P positions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor, nn

from germinal.errors import ContextWindowError, SettingError, UnsupportedError
from germinal.layers.attention import Attention, CapturedAttention, PaddedView
from germinal.layers.positions import Positions
from germinal.layers.stack import Stack
from germinal.models.heads import VOCABULARY_HEADS
from germinal.models.transformer import Transformer


@dataclass(frozen=True, slots=True)
class AttentionMap:
    """The attention weights of one kind of attention.

    Attributes:
        weights: float32 [L, H, T, S]; each row over S sums to 1.
        query_ids: The ids of the T query tokens.
        key_ids: The ids of the S key tokens.
    """

    weights: Tensor
    query_ids: tuple[int, ...]
    key_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class AttentionMaps:
    """The attention of one pass; None where the network has no such attention.

    Attributes:
        encoder: Self-attention of the encoder, in both directions.
        decoder: Self-attention of the decoder, of each token to itself and earlier ones.
        cross: Attention of the decoder's tokens to the encoder's.
    """

    encoder: AttentionMap | None
    decoder: AttentionMap | None
    cross: AttentionMap | None


@dataclass(frozen=True, slots=True)
class Trace:
    """What is recorded of one pass.

    Attributes:
        attention: The attention weights; None for each kind if they were not requested.
        states: float32 [L + 1, T, D] of the stack that answers: the input of the first layer and the output of each.
        hidden_states: float32 [T, D], after the final norm.
        ids: The T tokens of that stack.
    """

    attention: AttentionMaps
    states: Tensor
    hidden_states: Tensor
    ids: tuple[int, ...]


@torch.inference_mode()
def trace(
    network: Transformer, ids: Sequence[int], decoder_ids: Sequence[int] | None = None, *, attention: bool = True
) -> Trace:
    """Run one sequence and record the states between layers and, if requested, the attention weights.

    Args:
        network: The network.
        ids: Its input; of an encoder-decoder the source.
        decoder_ids: What the decoder of an encoder-decoder has generated so far, including its start token.
        attention: Whether to keep the attention weights, which grow with the square of the length.

    Raises:
        SettingError: there are no tokens, or `decoder_ids` is missing or of no use to the model.
        ContextWindowError: there are more tokens than the context window holds.
    """
    two_stacks = network.encoder is not None and network.decoder is not None
    if two_stacks != (decoder_ids is not None):
        what = "is needed by an encoder-decoder." if two_stacks else "was given, but the model has one stack."
        raise SettingError(what, where="decoder_ids")
    if not ids or (decoder_ids is not None and not decoder_ids):
        raise SettingError("must have at least one token.", where="decoder_ids" if ids else "ids")
    length, window = max(len(ids), len(decoder_ids or ())), network.config.max_position_embeddings
    if length > window:
        raise ContextWindowError(f"there are {length:,} tokens; the context window holds {window:,}.")
    stack = network.encoder if network.decoder is None else network.decoder
    assert stack is not None
    captures = [CapturedAttention(), CapturedAttention()] if attention else [None, None]
    source = torch.tensor([list(ids)], device=network.device)
    positions = network.counted_positions(source)
    view = PaddedView(source, causal=network.encoder is None, position_ids=positions, capture=captures[0])
    with _states_of(stack) as states:
        if decoder_ids is None:
            hidden_states = network.hidden_states(source, view)
        else:
            memory = network.encode(source, view)
            target = torch.tensor([list(decoder_ids)], device=network.device)
            view = PaddedView(target, causal=True, memory=memory, capture=captures[1])
            hidden_states = network.hidden_states(target, view)
    return Trace(
        attention=_attention_maps(network, captures, ids, decoder_ids),
        states=torch.cat(states).float().cpu(),
        hidden_states=hidden_states[0].float().cpu(),
        ids=tuple(ids if decoder_ids is None else decoder_ids),
    )


def _attention_maps(
    network: Transformer,
    captures: Sequence[CapturedAttention | None],
    ids: Sequence[int],
    decoder_ids: Sequence[int] | None,
) -> AttentionMaps:
    first, second = captures
    if first is None or second is None:
        return AttentionMaps(None, None, None)
    own = _map(first.self_attention, ids, ids)
    if decoder_ids is None:
        return AttentionMaps(None, own, None) if network.encoder is None else AttentionMaps(own, None, None)
    return AttentionMaps(
        own, _map(second.self_attention, decoder_ids, decoder_ids), _map(second.cross_attention, decoder_ids, ids)
    )


def _map(layers: list[Tensor], queries: Sequence[int], keys: Sequence[int]) -> AttentionMap:
    return AttentionMap(torch.cat(layers).cpu(), tuple(queries), tuple(keys))  # [1, H, T, S] each


@contextmanager
def _states_of(stack: Stack) -> Iterator[list[Tensor]]:
    """The input of a stack's first layer and the output of each layer, [1, T, D] each, filled while the stack runs."""
    states: list[Tensor] = []

    def keep(module: nn.Module, inputs: object, output: Tensor) -> None:
        states.append(output.clone())

    hooks = [module.register_forward_hook(keep) for module in (stack.embedding_norm, *stack.layers)]
    try:
        yield states
    finally:
        for hook in hooks:
            hook.remove()


def writes_words(network: Transformer) -> bool:
    """Whether the network has a vocabulary head, so that hidden states give logits."""
    return network.config.head in VOCABULARY_HEADS


@torch.inference_mode()
def logit_lens(network: Transformer, states: Tensor) -> Iterator[Tensor]:
    """The network's prediction after each layer: its final norm and head, applied to the layer's output.

    This is the logit lens (nostalgebraist 2020, "interpreting GPT: the logit lens"). The last one is the network's own
    prediction.

    Args:
        network: The network.
        states: [L + 1, T, D], of a `Trace`; to save time, only for the tokens that are needed.

    Yields:
        Logits float32 [T, V], of the first layer's input and of each layer's output.

    Raises:
        UnsupportedError: the network has no vocabulary head.
    """
    if not writes_words(network):
        raise UnsupportedError("has no vocabulary head.", where="the model")
    stack = network.encoder if network.decoder is None else network.decoder
    assert stack is not None
    for state in states:
        state = state.to(network.device, network.dtype)
        yield network.logits(stack.final_norm(state)).float().cpu()


@dataclass(frozen=True, slots=True)
class PositionTable:
    """How one position strategy tells positions apart, as numbers.

    Attributes:
        kind: "added": the vector that is added to the embeddings at each position, [P, D]. "rotation": the radians by
            which each pair of a head's dimensions is rotated, in (-pi, pi], [P, E / 2]. "bias": what is added to each
            head's scores at each distance, key minus query, relative to distance 0, [H, distances].
        values: float32, of the kind's shape.
        stack: The stack it belongs to.
        layers: The layers that use it.
        first: The position or distance of the first entry.
    """

    kind: Literal["added", "rotation", "bias"]
    values: Tensor
    stack: Literal["encoder", "decoder"]
    layers: tuple[int, ...]
    first: int = 0


@torch.inference_mode()
def position_tables(network: Transformer, num_positions: int) -> list[PositionTable]:
    """The table of every position strategy of the network's stacks, for the first `num_positions` positions.

    The strategies are called through the same three hooks as by attention.
    """
    config = network.config
    places = torch.arange(min(num_positions, config.max_position_embeddings), device=network.device)[None]  # [1, P]
    tables: list[PositionTable] = []
    stacks: tuple[tuple[Literal["encoder", "decoder"], Stack | None], ...] = (
        ("encoder", network.encoder),
        ("decoder", network.decoder),
    )
    for name, stack in stacks:
        if stack is None:
            continue
        everywhere = tuple(range(len(stack.layers)))
        nothing = torch.zeros(1, places.shape[1], config.hidden_size, device=network.device)
        added = stack.positions.embed(nothing, places)[0].float().cpu()
        if bool(added.any()):
            tables.append(PositionTable("added", added, name, everywhere))
        for strategy, layers in _strategies(stack).items():
            tables += _of_attention(strategy, places, causal=name == "decoder", stack=name, layers=layers)
    return tables


def _strategies(stack: Stack) -> dict[Positions, tuple[int, ...]]:
    """The position strategies of a stack's attention, each with its layers."""
    found: dict[Positions, tuple[int, ...]] = {}
    for index, layer in enumerate(stack.layers):
        strategy = cast("Attention", layer.self_attention).positions
        found[strategy] = (*found.get(strategy, ()), index)
    return found


def _of_attention(
    strategy: Positions,
    places: Tensor,
    *,
    causal: bool,
    stack: Literal["encoder", "decoder"],
    layers: tuple[int, ...],
) -> Iterator[PositionTable]:
    rotation = strategy.rotation(places, torch.float32)
    if rotation is not None:
        cos, sin = (table[0, :, 0, :].float().cpu() for table in rotation)  # [P, E]
        half = cos.shape[-1] // 2
        yield PositionTable("rotation", torch.atan2(sin[:, half:], cos[:, half:]), stack, layers)
    last = places.shape[1] - 1
    keys = places if causal else torch.arange(2 * last + 1, device=places.device)[None]
    bias = strategy.bias(places[:, last:], keys)  # [1, H, 1, S]
    if bias is not None:
        by_distance = bias[0, :, 0].float().cpu()  # [H, S]
        yield PositionTable("bias", by_distance - by_distance[:, last : last + 1], stack, layers, first=-last)


@dataclass(frozen=True, slots=True)
class Plane:
    """Vectors projected onto their first two principal components.

    Attributes:
        places: float32 [N, 2], centred.
        explained: The share of the variance along each of the two components.
        degrees: float32 [N, N], the angles between the vectors in all dimensions.
    """

    places: Tensor
    explained: tuple[float, float]
    degrees: Tensor


def plane(vectors: Tensor) -> Plane:
    """Principal components of vectors [N, D] by singular value decomposition, and the angles between them.

    The sign of each component is chosen so that the first vector that is not at 0 is on its positive side.
    """
    vectors = vectors.double()
    centred = vectors - vectors.mean(0)
    left, values, _ = torch.linalg.svd(centred, full_matrices=False)
    places = torch.zeros(len(vectors), 2, dtype=torch.float64)
    shown = min(2, len(values))
    places[:, :shown] = left[:, :shown] * values[:shown]
    for column in range(shown):
        first = next((value for value in places[:, column].tolist() if abs(value) > 1e-9), 1.0)
        places[:, column] *= 1 if first > 0 else -1
    shares = values.square() / values.square().sum().clamp(min=1e-30)
    held = [*shares[:2].tolist(), 0.0, 0.0]
    units = nn.functional.normalize(vectors, dim=-1)
    # From the chord rather than the cosine: arccos loses half of its digits near 0 degrees.
    chords = (units[:, None] - units[None]).norm(dim=-1)
    degrees = 2 * torch.asin((chords / 2).clamp(max=1)) * 180 / torch.pi
    return Plane(places.float(), (held[0], held[1]), degrees.float())
