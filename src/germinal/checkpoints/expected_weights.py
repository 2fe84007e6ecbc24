"""The tensors that a config's network needs, made only after its sizes are seen to be those of the file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import groupby
from math import prod

from torch import Tensor

from germinal.checkpoints.stored import Stored
from germinal.errors import CheckpointError
from germinal.models.config import TransformerConfig
from germinal.models.transformer import Transformer

SAME_MODEL = "Config and weights must come from the same model."


def check_sizes(config: TransformerConfig, stored: Mapping[str, Stored], where: str) -> None:
    """Refuse a config with a size that no tensor of the file has, before anything of that size is made.

    Raises:
        CheckpointError: names the size.
    """
    if sum(_layers(config).values()) > len(stored):
        raise CheckpointError(
            f"the config has {sum(_layers(config).values()):,} layers, but there are only {len(stored):,} tensors.",
            where=where,
            hint=SAME_MODEL,
        )
    # Of tensors with values: one without may claim any size.
    largest = max((max(each.shape, default=1) for each in stored.values() if prod(each.shape)), default=0)
    for name, size in _sizes(config):
        if size > largest:
            raise CheckpointError(
                f"the config's {name} of {size:,} is more than any dimension of the weights ({largest:,} at most).",
                where=where,
                hint=SAME_MODEL,
            )


def expected_shapes(config: TransformerConfig) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor of a config's network, by our name.

    The layers of a stack have the same shapes, so that a network with one layer a stack, which holds no values, is
    enough to find them.

    Raises:
        CheckpointError: a tensor is larger than any memory.
    """
    single = replace(config, num_layers=1, num_encoder_layers=None, windowed_layers=None)
    try:
        network = Transformer(single, device="meta")
    except RuntimeError as error:  # torch counts bytes in 64 bits
        raise CheckpointError("the config has a tensor larger than any memory.", hint=SAME_MODEL) from error
    return dict(_of_all_layers(network.state_dict().items(), _layers(config)))


def _layers(config: TransformerConfig) -> dict[str, int]:
    if config.stacks == "encoder-decoder":
        return {"encoder": config.encoder_layers, "decoder": config.num_layers}
    return {config.stacks: config.num_layers}


def _of_all_layers(
    tensors: Iterable[tuple[str, Tensor]], layers: Mapping[str, int]
) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes in the network's order: all of a layer, then all of the next."""
    for stack, group in groupby(tensors, key=lambda named: _stack_of(named[0])):
        shapes = [(name, tuple(tensor.shape)) for name, tensor in group]
        for layer in range(layers[stack] if stack else 1):
            for name, shape in shapes:
                yield name.replace(".layers.0.", f".layers.{layer}.", 1) if stack else name, shape


def _stack_of(name: str) -> str:
    """The stack whose first layer has a tensor; empty for what is in no layer."""
    stack, inside, _ = name.partition(".layers.0.")
    return stack if inside else ""


def _sizes(config: TransformerConfig) -> Iterator[tuple[str, int]]:
    """The sizes that a matrix of the network has, each with a name for messages."""
    yield "vocab_size", config.vocab_size
    yield "hidden_size", config.hidden_size
    yield "intermediate_size", max(config.intermediate_size, config.encoder_intermediate_size or 0)
    yield "num_heads x head_dim", config.num_heads * config.head_dim
    yield "num_kv_heads x head_dim", config.num_kv_heads * config.head_dim
    yield "num_token_types", config.num_token_types
    yield "num_labels", config.num_labels
    if config.positions == "learned":
        yield "max_position_embeddings", config.max_position_embeddings + config.position_offset
    if config.positions == "relative":
        yield "num_buckets", config.num_buckets
