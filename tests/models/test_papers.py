"""Families that nobody published code for, against their papers' equations: plain loops over tokens, heads and pairs.

Everything here is numpy in double precision and shares no line with ours. Matrices are stored [O, I] by us, so that a
paper's x W is x @ w.T here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from germinal.models import families
from germinal.models.transformer import Transformer

Array = NDArray[np.float64]
SIZES = {"vocab_size": 23, "max_position_embeddings": 16}


class Weights:
    """The tensors under a prefix, in double precision."""

    def __init__(self, tensors: dict[str, Array], prefix: str = "") -> None:
        self.tensors = tensors
        self.prefix = prefix

    def __getitem__(self, name: str) -> Array:
        return self.tensors[self.prefix + name]

    def under(self, prefix: str) -> Weights:
        return Weights(self.tensors, f"{self.prefix}{prefix}.")

    def linear(self, name: str, x: Array) -> Array:
        """x W + b."""
        product = x @ self[f"{name}.weight"].T
        bias = f"{self.prefix}{name}.bias"
        return product + self.tensors[bias] if bias in self.tensors else product


def network_and_weights(family: str, **config: Any) -> tuple[Transformer, Weights]:
    torch.manual_seed(0)
    network = families.build(family, **SIZES, **config).eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return network, Weights({name: tensor.double().numpy() for name, tensor in network.state_dict().items()})


def softmax(scores: Array) -> Array:
    powers = np.exp(scores - scores.max())
    return powers / powers.sum()


def layer_norm(weights: Weights, name: str, x: Array, eps: float) -> Array:
    """Ba et al. 2016, eq. 4, a token at a time; without a bias where the paper has none."""
    normed = np.empty_like(x)
    for token, row in enumerate(x):
        mean = sum(row) / len(row)
        variance = sum((value - mean) ** 2 for value in row) / len(row)
        normed[token] = (row - mean) / math.sqrt(variance + eps) * weights[f"{name}.weight"]
    bias = f"{weights.prefix}{name}.bias"
    return normed + weights.tensors[bias] if bias in weights.tensors else normed


def multi_head(
    weights: Weights,
    x: Array,
    memory: Array,
    heads: int,
    *,
    masked: bool,
    turn: Callable[[Array, int], Array] = lambda head, position: head,
    key_heads: int | None = None,
) -> Array:
    """Vaswani et al., section 3.2.2: Concat(head_1, ..., head_h) W^O with head_i = softmax(Q K^T / sqrt(d_k)) V."""
    query, key, value = weights.linear("q_proj", x), weights.linear("k_proj", memory), weights.linear("v_proj", memory)
    width = query.shape[1] // heads
    concatenated = np.zeros_like(query)
    for head in range(heads):
        own = slice(head * width, (head + 1) * width)
        shared = own if key_heads is None else slice(0, width)  # multi-query: one key and value head for all
        for here in range(len(x)):
            seen = range(here + 1) if masked else range(len(memory))
            turned = turn(query[here, own], here)
            scores = np.array([turned @ turn(key[there, shared], there) / math.sqrt(width) for there in seen])
            for there, probability in zip(seen, softmax(scores), strict=True):
                concatenated[here, own] += probability * value[there, shared]
    return weights.linear("o_proj", concatenated)


# --- Vaswani et al. 2017, arXiv 1706.03762 -------------------------------------------------------------------------


def positional_encoding(length: int, width: int) -> Array:
    """Section 3.5: PE(pos, 2i) = sin(pos / 10000^(2i / d)), PE(pos, 2i + 1) = cos of the same."""
    table = np.zeros((length, width))
    for position in range(length):
        for i in range(width // 2):
            table[position, 2 * i] = math.sin(position / 10_000 ** (2 * i / width))
            table[position, 2 * i + 1] = math.cos(position / 10_000 ** (2 * i / width))
    return table


def relu_network(weights: Weights, x: Array) -> Array:
    """Eq. 2: FFN(x) = max(0, x W_1 + b_1) W_2 + b_2."""
    return weights.linear("down_proj", np.maximum(0, weights.linear("up_proj", x)))


def original_transformer(weights: Weights, config: Any, source: list[int], target: list[int]) -> Array:
    """Logits [T, V]: LayerNorm(x + Sublayer(x)) throughout (section 3.1), one matrix for both embeddings and the
    pre-softmax product, multiplied by sqrt(d_model) in the embeddings (section 3.4).
    """
    table, eps, heads = weights["embed_tokens.weight"], config.norm_eps, config.num_heads
    embedded = [
        table[ids] * math.sqrt(table.shape[1]) + positional_encoding(len(ids), table.shape[1])
        for ids in (source, target)
    ]
    x = embedded[0]
    for i in range(config.encoder_layers):
        layer = weights.under(f"encoder.layers.{i}")
        attended = multi_head(layer.under("self_attention"), x, x, heads, masked=False)
        x = layer_norm(layer, "attention_norm", x + attended, eps)
        x = layer_norm(layer, "feed_forward_norm", x + relu_network(layer.under("feed_forward"), x), eps)
    memory, y = x, embedded[1]
    for i in range(config.num_layers):
        layer = weights.under(f"decoder.layers.{i}")
        attended = multi_head(layer.under("self_attention"), y, y, heads, masked=True)
        y = layer_norm(layer, "attention_norm", y + attended, eps)
        crossed = multi_head(layer.under("cross_attention"), y, memory, heads, masked=False)
        y = layer_norm(layer, "cross_attention_norm", y + crossed, eps)
        y = layer_norm(layer, "feed_forward_norm", y + relu_network(layer.under("feed_forward"), y), eps)
    return y @ table.T


# --- PaLM: Chowdhery et al. 2022, arXiv 2204.02311 -----------------------------------------------------------------


def rotary(head: Array, position: int) -> Array:
    """Su et al. 2021 (arXiv 2104.09864), eq. 15: neighbours (x_2i, x_2i+1) turned by position * 10000^(-2i / d)."""
    turned, width = np.empty_like(head), len(head)
    for i in range(width // 2):
        angle = position * 10_000 ** (-2 * i / width)
        first, second = head[2 * i], head[2 * i + 1]
        turned[2 * i] = first * math.cos(angle) - second * math.sin(angle)
        turned[2 * i + 1] = first * math.sin(angle) + second * math.cos(angle)
    return turned


def neighbours(weights: Weights, heads: int) -> Weights:
    """The paper's layout of query and key rows out of ours, where pairs stand half a head apart."""
    tensors = dict(weights.tensors)
    for name, tensor in weights.tensors.items():
        for kind, count in (("q_proj", heads), ("k_proj", 1)):
            if kind in name:
                halves = tensor.reshape(count, 2, -1, tensor.shape[-1])
                tensors[name] = halves.transpose(0, 2, 1, 3).reshape(tensor.shape)
    return Weights(tensors)


def swiglu_network(weights: Weights, x: Array) -> Array:
    """Section 2: (Swish(x W) * x V) W_2, where Swish(z) = z / (1 + e^-z)."""
    gate = weights.linear("gate_proj", x)
    return weights.linear("down_proj", gate / (1 + np.exp(-gate)) * weights.linear("up_proj", x))


def palm(weights: Weights, config: Any, ids: list[int]) -> Array:
    """Logits [T, V]: y = x + MLP(LayerNorm(x)) + Attention(LayerNorm(x)), one key-value head, no biases (section 2).

    Section 5 leaves the embeddings as they are and divides the logits by sqrt(d): its table is sqrt(d) times ours.
    """
    weights = neighbours(weights, config.num_heads)
    width = config.hidden_size
    table = weights["embed_tokens.weight"] * math.sqrt(width)
    x = table[ids]
    for i in range(config.num_layers):
        layer = weights.under(f"decoder.layers.{i}")
        normed = layer_norm(layer, "norm", x, config.norm_eps)
        attended = multi_head(
            layer.under("self_attention"), normed, normed, config.num_heads, masked=True, turn=rotary, key_heads=1
        )
        x = x + swiglu_network(layer.under("feed_forward"), normed) + attended
    return layer_norm(weights.under("decoder"), "final_norm", x, config.norm_eps) @ table.T / math.sqrt(width)


# --- Jurassic-1: Lieber et al. 2021, after GPT-3 (arXiv 2005.14165), after GPT-2 ------------------------------------


def gelu_network(weights: Weights, x: Array) -> Array:
    """GELU(z) = z Phi(z) (Hendrycks & Gimpel 2016, eq. 1)."""
    inner = weights.linear("up_proj", x)
    phi = np.vectorize(lambda z: 0.5 * (1 + math.erf(z / math.sqrt(2))))
    return weights.linear("down_proj", inner * phi(inner))


def jurassic(weights: Weights, config: Any, ids: list[int]) -> Array:
    """Logits [T, V]: learned positions, norms moved to the input of each sub-block, one more after the last."""
    table, eps = weights["embed_tokens.weight"], config.norm_eps
    x = table[ids] + weights["decoder.positions.table.weight"][: len(ids)]
    for i in range(config.num_layers):
        layer = weights.under(f"decoder.layers.{i}")
        normed = layer_norm(layer, "attention_norm", x, eps)
        x = x + multi_head(layer.under("self_attention"), normed, normed, config.num_heads, masked=True)
        x = x + gelu_network(layer.under("feed_forward"), layer_norm(layer, "feed_forward_norm", x, eps))
    return layer_norm(weights.under("decoder"), "final_norm", x, eps) @ table.T


def compare(logits: torch.Tensor, expected: Array) -> None:
    found = logits[0].double().numpy()
    scale = np.abs(expected).max()
    assert scale > 0.1
    np.testing.assert_allclose(found / scale, expected / scale, atol=1e-4)


SOURCE, TARGET = [3, 14, 15, 9, 2, 6, 5, 3, 5, 8, 9], [7, 9, 3, 2, 3, 8, 4]

SHAPES_OF_2017 = [
    {"hidden_size": 16, "num_heads": 2, "intermediate_size": 24, "num_layers": 2},
    {"hidden_size": 12, "num_heads": 3, "intermediate_size": 7, "num_layers": 1, "num_encoder_layers": 3},
    {"hidden_size": 10, "num_heads": 1, "intermediate_size": 20, "num_layers": 2},
]


@pytest.mark.parametrize("shape", SHAPES_OF_2017)
@torch.no_grad()
def test_the_transformer_of_2017(shape: dict[str, int]) -> None:
    network, weights = network_and_weights("transformer", **shape)
    hidden_states = network(torch.tensor([SOURCE]), decoder_input_ids=torch.tensor([TARGET]))
    compare(network.logits(hidden_states), original_transformer(weights, network.config, SOURCE, TARGET))


SHAPES_OF_PALM = [
    {"hidden_size": 16, "num_heads": 2, "head_dim": 8, "intermediate_size": 64, "num_layers": 2},
    {"hidden_size": 18, "num_heads": 4, "head_dim": 6, "intermediate_size": 11, "num_layers": 3},  # heads wider than D
    {"hidden_size": 16, "num_heads": 1, "head_dim": 16, "intermediate_size": 32, "num_layers": 1},
]


@pytest.mark.parametrize("shape", SHAPES_OF_PALM)
@torch.no_grad()
def test_palm(shape: dict[str, int]) -> None:
    network, weights = network_and_weights("palm", **shape)
    compare(network.logits(network(torch.tensor([SOURCE]))), palm(weights, network.config, SOURCE))


SHAPES_OF_JURASSIC = [
    {"hidden_size": 16, "num_heads": 2, "intermediate_size": 64, "num_layers": 2},
    {"hidden_size": 15, "num_heads": 3, "intermediate_size": 13, "num_layers": 3},
    {"hidden_size": 20, "num_heads": 1, "intermediate_size": 40, "num_layers": 1},
]


@pytest.mark.parametrize("shape", SHAPES_OF_JURASSIC)
@torch.no_grad()
def test_jurassic_1(shape: dict[str, int]) -> None:
    network, weights = network_and_weights("jurassic1", **shape)
    compare(network.logits(network(torch.tensor([SOURCE]))), jurassic(weights, network.config, SOURCE))


@torch.no_grad()
def test_a_padded_batch_gives_what_each_alone_gives() -> None:
    """Equations know no padding: the last tokens of both sequences are padding to ours."""
    network, weights = network_and_weights("transformer", **SHAPES_OF_2017[0])
    short_source, short_target = SOURCE[:6], TARGET[:4]
    sources = torch.tensor([SOURCE, [*short_source, *[1] * (len(SOURCE) - 6)]])
    targets = torch.tensor([TARGET, [*short_target, *[1] * (len(TARGET) - 4)]])
    mask = torch.ones_like(sources)
    mask[1, 6:] = 0
    logits = network.logits(network(sources, mask, decoder_input_ids=targets))
    compare(logits[1:, :4], original_transformer(weights, network.config, short_source, short_target))
    compare(logits[:1], original_transformer(weights, network.config, SOURCE, TARGET))
