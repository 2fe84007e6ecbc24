"""The Transformer: token ids to hidden states to logits, built from its config by looking up each axis in a table.

Published as the encoder-decoder of Vaswani et al. 2017 (arXiv 1706.03762); what a later family changed is a value of
one of the config's axes. Shapes as in `germinal.layers`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor, nn

from germinal.errors import UnsupportedError
from germinal.layers.attention import Attention, AttentionView, PaddedView
from germinal.layers.blocks import BLOCKS
from germinal.layers.feed_forward import ACTIVATIONS, FeedForward
from germinal.layers.kernels import linear
from germinal.layers.linear import Linear
from germinal.layers.norms import NORMS
from germinal.layers.positions import Positions, Rotary
from germinal.layers.stack import Stack
from germinal.models.config import TransformerConfig

Value = TypeVar("Value")

POSITIONS: dict[str, Callable[[TransformerConfig], Positions]] = {
    "none": lambda config: Positions(),
    "rotary": lambda config: Rotary(config.head_dim, config.rope_theta, config.rope_scaling),
}


class Transformer(nn.Module):
    """A decoder-only language model.

    Args:
        config: What to build.
        device: "meta" builds the shape alone, to be filled by `load_state_dict(assign=True)` without a second copy.

    Raises:
        UnsupportedError: a value of one of the config's axes has no implementation.
    """

    def __init__(self, config: TransformerConfig, device: torch.device | str | None = None) -> None:
        super().__init__()
        if config.stacks != "decoder":
            raise UnsupportedError(
                f"'{config.stacks}' models cannot be built yet.", where="config.stacks", hint="Known: decoder."
            )
        self.config = config
        self.embed_tokens = _embedding(config.vocab_size, config.hidden_size, device)
        self.decoder = _stack(config, device)
        self.lm_head = (
            None if config.tie_embeddings else Linear(config.hidden_size, config.vocab_size, bias=False, device=device)
        )

    @property
    def device(self) -> torch.device:
        return self.embed_tokens.weight.device

    @property
    def dtype(self) -> torch.dtype:
        return self.embed_tokens.weight.dtype

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
    ) -> Tensor:
        """Hidden states of a batch of sequences.

        Args:
            input_ids: [B, T].
            attention_mask: [B, T], nonzero where a token is real.
            position_ids: [B, T]; 0, 1, 2, ... when not given.

        Returns:
            [B, T, D], after the final norm.
        """
        return self.hidden_states(
            input_ids, PaddedView(input_ids, attention_mask, causal=True, position_ids=position_ids)
        )

    def hidden_states(self, input_ids: Tensor, view: AttentionView) -> Tensor:
        """[...] -> [..., D], for a padded batch as for the flat batch of a cache: the view tells them apart."""
        embedded = self.embed_tokens(input_ids)
        if self.config.embedding_scale != 1.0:
            embedded = embedded * self.config.embedding_scale
        return self.decoder(embedded, view)

    def logits(self, hidden_states: Tensor) -> Tensor:
        """[..., D] -> [..., V]. Give it only the positions that are wanted: it is the widest product of the model."""
        weight = self.embed_tokens.weight if self.lm_head is None else self.lm_head.weight
        logits = linear(hidden_states, weight)
        return logits if self.config.logit_scale == 1.0 else logits * self.config.logit_scale

    def num_parameters(self) -> int:
        """Weights in all; a tied output matrix counts once."""
        return sum(parameter.numel() for parameter in self.parameters())


def _embedding(vocab_size: int, hidden_size: int, device: torch.device | str | None) -> nn.Embedding:
    if device is None or torch.device(device).type != "meta":
        return nn.Embedding(vocab_size, hidden_size, device=device)
    # There is nothing to initialise, and torch's `normal_` on this device imports its whole compiler: seconds.
    return nn.Embedding(vocab_size, hidden_size, _weight=torch.empty(vocab_size, hidden_size, device=device))


def _stack(config: TransformerConfig, device: torch.device | str | None) -> Stack:
    norm = partial(_lookup(NORMS, config.norm, "norm"), config.hidden_size, config.norm_eps, device=device)
    positions = _lookup(POSITIONS, config.positions, "positions")(config)
    block = _lookup(BLOCKS, (config.block, config.norm_placement), "block, norm_placement")
    _lookup(ACTIVATIONS, config.activation, "activation")

    def attention() -> Attention:
        return Attention(
            config.hidden_size,
            config.num_heads,
            config.num_kv_heads,
            config.head_dim,
            scale=config.head_dim**-0.5 if config.attention_scale is None else config.attention_scale,
            bias=config.attention_bias,
            output_bias=config.attention_output_bias,
            positions=positions,
            device=device,
        )

    def feed_forward() -> FeedForward:
        return FeedForward(
            config.hidden_size,
            config.intermediate_size,
            activation=config.activation,
            gated=config.gated,
            bias=config.feed_forward_bias,
            device=device,
        )

    blocks = [block(norm, attention(), feed_forward()) for _ in range(config.num_layers)]
    return Stack(blocks, positions, norm())


def _lookup(
    table: Mapping[str, Value] | Mapping[tuple[str, str], Value], name: str | tuple[str, str], axis: str
) -> Value:
    if name not in table:
        known = ", ".join(str(key) for key in table)
        raise UnsupportedError(f"no implementation of {name!r}.", where=f"config.{axis}", hint=f"Known: {known}.")
    return table[name]  # type: ignore[index]  # checked on the line above; the two key types never meet
