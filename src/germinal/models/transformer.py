"""The Transformer: token ids to hidden states to logits, built from its config by looking up each axis in a table.

Published as the encoder-decoder of Vaswani et al. 2017 (arXiv 1706.03762); what later families changed are values on
the config's axes. Shapes as in `germinal.layers`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor, nn

from germinal.errors import SettingError, UnsupportedError
from germinal.layers.activations import ACTIVATIONS
from germinal.layers.attention import Attention, AttentionView, CrossAttention, PaddedView
from germinal.layers.blocks import BLOCKS
from germinal.layers.embedding import embedding
from germinal.layers.feed_forward import FeedForward
from germinal.layers.linear import Linear, tied_linear
from germinal.layers.masks import places_in_documents
from germinal.layers.norms import NORMS
from germinal.layers.positions import ALiBi, Learned, Positions, RelativeBuckets, Rotary, Sinusoidal
from germinal.layers.stack import Stack
from germinal.models.config import TransformerConfig
from germinal.models.heads import HEADS, VOCABULARY_HEADS

Value = TypeVar("Value")
Device = torch.device | str | None


class Transformer(nn.Module):
    """A decoder, an encoder or both, with the head that the config names.

    Args:
        config: What to build.
        device: "meta" allocates no weights: `load_state_dict(assign=True)` then fills them without a second copy.

    Raises:
        UnsupportedError: a value of one of the config's axes has no implementation.
    """

    def __init__(self, config: TransformerConfig, device: Device = None) -> None:
        super().__init__()
        self.config = config
        self.embed_tokens = embedding(config.vocab_size, config.hidden_size, device)
        types = config.num_token_types
        self.embed_token_types = embedding(types, config.hidden_size, device) if types else None
        self.encoder = _Builder(config.of_encoder(), device).stack(causal=False) if config.stacks != "decoder" else None
        self.decoder = _Builder(config, device).stack(causal=True) if config.stacks != "encoder" else None
        self.head = None if config.head is None else _lookup(HEADS, config.head, "head")(config, device)
        writes = config.head in VOCABULARY_HEADS
        self.lm_head = self._output_matrix(device) if writes else None
        self.logit_bias = (
            nn.Parameter(torch.zeros(config.vocab_size, device=device)) if writes and config.logit_bias else None
        )

    def _output_matrix(self, device: Device) -> Linear:
        if self.config.tie_embeddings:
            return tied_linear(self.embed_tokens)
        return Linear(self.config.hidden_size, self.config.vocab_size, bias=False, device=device)

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
        *,
        token_type_ids: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        decoder_attention_mask: Tensor | None = None,
        prefix_mask: Tensor | None = None,
        document_ids: Tensor | None = None,
        decoder_document_ids: Tensor | None = None,
    ) -> Tensor:
        """Hidden states of a batch of sequences.

        Args:
            input_ids: [B, T]; of an encoder-decoder the source [B, S].
            attention_mask: The same shape, nonzero where a token is real.
            position_ids: The same shape; 0, 1, 2, ... in each document when not given.
            token_type_ids: The same shape; the segment of each token, 0 when not given.
            decoder_input_ids, decoder_attention_mask: [B, T], of an encoder-decoder.
            prefix_mask: The same shape, nonzero in the prefix of each row or document, whose tokens see each other; the
                tokens after it are causal. For decoders, trained as prefix-LMs.
            document_ids: The same shape, equal for tokens of one document. Documents packed into a row give the same
                hidden states as each gives alone.
            decoder_document_ids: [B, T], of an encoder-decoder: the number of the source that each target belongs to.

        Returns:
            [B, T, D], after the final norm; of an encoder-decoder the decoder's.

        Raises:
            SettingError: `decoder_input_ids` is missing, or an argument has another shape than its ids or is of no use
                to the model.
        """
        self._check_inputs(input_ids, decoder_input_ids, prefix_mask, document_ids, decoder_document_ids)
        counted = (
            self.counted_positions(input_ids, attention_mask, document_ids) if position_ids is None else position_ids
        )
        view = PaddedView(
            input_ids,
            attention_mask,
            causal=self.encoder is None,
            position_ids=counted,
            prefix_mask=prefix_mask,
            document_ids=document_ids,
        )
        if decoder_input_ids is None:
            return self.hidden_states(input_ids, view, token_type_ids)
        view = PaddedView(
            decoder_input_ids,
            decoder_attention_mask,
            causal=True,
            position_ids=self.counted_positions(decoder_input_ids, decoder_attention_mask, decoder_document_ids),
            document_ids=decoder_document_ids,
            memory=self.encode(input_ids, view),
            memory_mask=attention_mask,
            memory_document_ids=document_ids,
        )
        return self.hidden_states(decoder_input_ids, view)

    def _check_inputs(
        self,
        input_ids: Tensor,
        decoder_input_ids: Tensor | None,
        prefix_mask: Tensor | None,
        document_ids: Tensor | None,
        decoder_document_ids: Tensor | None,
    ) -> None:
        """Refuse arguments that are missing, of no use to the model, or of another shape than their ids."""
        two_stacks = self.encoder is not None and self.decoder is not None
        if two_stacks != (decoder_input_ids is not None):
            what = "is needed by an encoder-decoder." if two_stacks else "was given, but the model has one stack."
            raise SettingError(what, where="decoder_input_ids")
        if two_stacks and (document_ids is None) != (decoder_document_ids is None):
            what = "must be given for both source and target, or for neither."
            raise SettingError(what, where="document_ids, decoder_document_ids")
        if not two_stacks and decoder_document_ids is not None:
            raise SettingError("was given, but the model has one stack.", where="decoder_document_ids")
        if prefix_mask is not None and self.config.stacks != "decoder":
            raise SettingError("was given, but an encoder's tokens see everything already.", where="prefix_mask")
        _check_shape("prefix_mask", prefix_mask, input_ids)
        _check_shape("document_ids", document_ids, input_ids)
        if decoder_input_ids is not None:
            _check_shape("decoder_document_ids", decoder_document_ids, decoder_input_ids)

    def counted_positions(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, document_ids: Tensor | None = None
    ) -> Tensor | None:
        """Position ids that count some tokens only, for families that use such; None for the others.

        A token that is not counted is at 0 where the mask decides, and at -1 where its id does.
        """
        if (skipped := self.config.uncounted_token) is not None:
            counted, shift = (input_ids != skipped).long(), 1
        elif attention_mask is not None and self.config.positions_from_mask:
            counted, shift = attention_mask, 0
        else:
            return None
        if document_ids is not None:
            return (places_in_documents(document_ids, counted) + shift) * counted - shift
        return (counted.cumsum(-1) - 1 + shift) * counted - shift

    def hidden_states(self, input_ids: Tensor, view: AttentionView, token_type_ids: Tensor | None = None) -> Tensor:
        """[...] -> [..., D], of the stack that answers; for a padded batch or a flat one, as the view is."""
        stack = self.encoder if self.decoder is None else self.decoder
        assert stack is not None
        return stack(self._embedded(input_ids, token_type_ids), view)

    def encode(self, input_ids: Tensor, view: AttentionView) -> Tensor:
        """The encoder's output, [...] -> [..., D]."""
        assert self.encoder is not None, "the model has no encoder"
        return self.encoder(self._embedded(input_ids, None), view)

    def _embedded(self, input_ids: Tensor, token_type_ids: Tensor | None) -> Tensor:
        embedded = self.embed_tokens(input_ids)
        if self.config.embedding_scale != 1.0:
            # In the weights' precision, as in the published code: in bfloat16, sqrt(D) is rounded.
            embedded = embedded * torch.tensor(self.config.embedding_scale, dtype=embedded.dtype)
        if self.embed_token_types is not None:
            types = torch.zeros_like(input_ids) if token_type_ids is None else token_type_ids
            embedded = embedded + self.embed_token_types(types)
        return embedded

    def logits(self, hidden_states: Tensor) -> Tensor:
        """[..., D] -> [..., V]. Pass only the positions that are needed: this is the largest product of the model."""
        assert self.head is not None, "the model has no head"
        assert self.lm_head is not None, "the model has no vocabulary head"
        hidden_states = self.head(hidden_states)
        if self.config.logit_scale != 1.0:
            hidden_states = hidden_states * self.config.logit_scale
        logits: Tensor = self.lm_head(hidden_states)
        return logits if self.logit_bias is None else logits.add_(self.logit_bias)

    def num_parameters(self) -> int:
        """The number of weights; a tied output matrix counts once."""
        return sum(parameter.numel() for parameter in self.parameters())


class _Builder:
    """Builds the stacks of a config."""

    def __init__(self, config: TransformerConfig, device: Device) -> None:
        self.config = config
        self.device = device
        self.norm = self._norm(config.hidden_size)
        _lookup(ACTIVATIONS, config.activation, "activation")

    def _norm(self, size: int) -> Callable[[], nn.Module]:
        return partial(_lookup(NORMS, self.config.norm, "norm"), size, self.config.norm_eps, device=self.device)

    def stack(self, *, causal: bool) -> Stack:
        config = self.config
        block = _lookup(BLOCKS, (config.block, config.norm_placement), "block, norm_placement")
        positions = _lookup(POSITIONS, config.positions, "positions")(config, causal, self.device)
        windowed = positions
        if config.windowed_rope_theta is not None:
            windowed = Rotary(config.head_dim, config.windowed_rope_theta)
        crossed = causal and config.stacks == "encoder-decoder"
        blocks = [
            block(
                self.norm,
                self._attention(layer, windowed if config.is_windowed(layer) else positions),
                self._feed_forward(),
                self._cross_attention() if crossed else None,
            )
            for layer in range(config.num_layers)
        ]
        embedding_norm = self.norm() if config.embedding_norm else nn.Identity()
        return Stack(
            blocks, positions, embedding_norm, nn.Identity() if config.norm_placement == "post" else self.norm()
        )

    def _attention(self, layer: int, positions: Positions) -> Attention:
        config = self.config
        return Attention(
            *self._heads(),
            scale=self._scale() / (layer + 1 if config.attention_scale_by_layer else 1),
            bias=config.attention_bias,
            output_bias=config.attention_output_bias,
            positions=positions,
            head_norm=self._norm(config.head_dim) if config.head_norm else nn.Identity,
            window=config.window if config.is_windowed(layer) else None,
            device=self.device,
        )

    def _cross_attention(self) -> CrossAttention:
        return CrossAttention(
            *self._heads(),
            scale=self._scale(),
            bias=self.config.attention_bias,
            output_bias=self.config.attention_output_bias,
            device=self.device,
        )

    def _heads(self) -> tuple[int, int, int, int]:
        return self.config.hidden_size, self.config.num_heads, self.config.num_kv_heads, self.config.head_dim

    def _scale(self) -> float:
        scale = self.config.attention_scale
        return float(self.config.head_dim**-0.5) if scale is None else scale

    def _feed_forward(self) -> FeedForward:
        return FeedForward(
            self.config.hidden_size,
            self.config.intermediate_size,
            activation=self.config.activation,
            gated=self.config.gated,
            bias=self.config.feed_forward_bias,
            device=self.device,
        )


POSITIONS: dict[str, Callable[[TransformerConfig, bool, Device], Positions]] = {
    "none": lambda config, causal, device: Positions(),
    "rotary": lambda config, causal, device: Rotary(config.head_dim, config.rope_theta, config.rope_scaling),
    "learned": lambda config, causal, device: Learned(
        config.max_position_embeddings, config.hidden_size, config.position_offset, device
    ),
    "sinusoidal": lambda config, causal, device: Sinusoidal(config.hidden_size, "interleaved"),
    "sinusoidal_halves": lambda config, causal, device: Sinusoidal(config.hidden_size, "halves"),
    "alibi": lambda config, causal, device: ALiBi(config.num_heads),
    "relative": lambda config, causal, device: RelativeBuckets(
        config.num_heads,
        num_buckets=config.num_buckets,
        max_distance=config.max_distance,
        bidirectional=not causal,
        device=device,
    ),
}


def _check_shape(name: str, given: Tensor | None, ids: Tensor) -> None:
    """Refuse a tensor whose shape is not that of its token ids."""
    if given is not None and given.shape != ids.shape:
        raise SettingError(f"has the shape {list(given.shape)}, its token ids {list(ids.shape)}.", where=name)


def _lookup(
    table: Mapping[str, Value] | Mapping[tuple[str, str], Value], name: str | tuple[str, str], axis: str
) -> Value:
    if name not in table:
        known = ", ".join(str(key) for key in table)
        raise UnsupportedError(f"no implementation of {name!r}.", where=f"config.{axis}", hint=f"Known: {known}.")
    return table[name]  # type: ignore[index]  # checked on the line above; the two key types never meet
