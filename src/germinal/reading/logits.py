"""Tensors in, tensors out: logits over the vocabulary, and the loss of labelled tokens.

Shapes: B batch, T tokens, S tokens of an encoder-decoder's source, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn

from germinal.errors import ContextWindowError, SettingError
from germinal.layers.adapters import routed_virtual_ids
from germinal.layers.masks import document_starts, longest_document
from germinal.models.heads import VOCABULARY_HEADS
from germinal.objectives.language_modelling import IGNORED, causal_lm_loss, labelled_cross_entropy, labelled_tokens
from germinal.reading.reader import Reader

Ids = Tensor | Sequence[Sequence[int]]
"""Token ids, or a mask over them, [B, T]."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """What goes into a network.

    Attributes:
        input_ids: [B, T]; of an encoder-decoder the source [B, S].
        attention_mask: The same shape, nonzero where a token is real.
        decoder_input_ids: [B, T], of an encoder-decoder.
        prefix_mask: [B, T], nonzero in the prefix of a row of a decoder: its tokens see each other.
        document_ids: The shape of `input_ids`. Where several documents are packed into a row, the number of each
            token's document.
        decoder_document_ids: The shape of `decoder_input_ids`. The number of each token's source.
    """

    input_ids: Ids
    attention_mask: Ids | None = None
    decoder_input_ids: Ids | None = None
    prefix_mask: Ids | None = None
    document_ids: Ids | None = None
    decoder_document_ids: Ids | None = None

    def tensors(self, device: torch.device) -> dict[str, Tensor]:
        """Those that are given, by name, on a device."""
        given = {spec.name: getattr(self, spec.name) for spec in fields(self)}
        return {name: torch.as_tensor(ids, device=device) for name, ids in given.items() if ids is not None}


@torch.inference_mode()
def logits(reader: Reader, inputs: Inputs) -> Tensor:
    """Logits [B, T, V], float32; there are none of the virtual tokens that an adapter has before each row.

    Raises:
        UnsupportedError: the model's head is not over the vocabulary.
        SettingError: `decoder_input_ids` is missing, a shape is wrong, or something was given that the model has no use
            for.
        ContextWindowError: there are more tokens than the model has positions for.
    """
    reader.require_head("give the logits of its vocabulary", *VOCABULARY_HEADS)
    hidden_states = _hidden_states(reader, inputs.tensors(reader.network.device))
    return reader.network.logits(hidden_states[:, _virtual_positions(reader) :]).float()


@torch.inference_mode()
def loss(reader: Reader, inputs: Inputs, labels: Ids | None = None) -> Tensor:
    """Mean cross-entropy of the labelled tokens, in nats: a float32 scalar in [0, inf).

    A decoder predicts each token from those before it. An encoder-decoder predicts `labels[:, t]` from
    `decoder_input_ids[:, : t + 1]`; without these it reads the labels, moved one place to the right behind the token
    that its decoder starts with. A masked language model predicts each token at its own place. Where documents are
    packed into a row, nothing is predicted across their borders.

    Args:
        labels: [B, T], -100 where a token does not count. None labels every real token outside of a prefix, which
            only a decoder can predict.

    Raises:
        UnsupportedError, SettingError, ContextWindowError: as of `logits`.
        SettingError: there are no labels, and the model has an encoder; or a label is outside the vocabulary.
    """
    reader.require_head("give the loss of its vocabulary", *VOCABULARY_HEADS)
    stacks, device = reader.config.stacks, reader.network.device
    tensors = inputs.tensors(device)
    targets = None if labels is None else torch.as_tensor(labels, device=device)
    if targets is not None:
        _check_known(reader, targets[targets != IGNORED], "labels")
    if stacks == "decoder":
        targets = _real_tokens(tensors) if targets is None else targets
        if (documents := tensors.get("document_ids")) is not None:
            targets = targets.masked_fill(document_starts(documents), IGNORED)
        hidden_states = _hidden_states(reader, tensors)
        # The first token of a row is predicted too, where virtual tokens stand before it.
        targets = nn.functional.pad(targets, (_virtual_positions(reader), 0), value=IGNORED)
        return causal_lm_loss(hidden_states, targets, reader.network.logits) / max(1, labelled_tokens(targets))
    if targets is None:
        raise SettingError("are needed, since the model has an encoder.", where="labels")
    if stacks == "encoder-decoder" and "decoder_input_ids" not in tensors:
        tensors["decoder_input_ids"] = _moved_right(reader, targets, tensors.get("decoder_document_ids"))
    hidden_states = _hidden_states(reader, tensors)
    summed = labelled_cross_entropy(hidden_states, targets, reader.network.logits)
    return summed / max(1, int((targets != IGNORED).sum()))


def _hidden_states(reader: Reader, tensors: Mapping[str, Tensor]) -> Tensor:
    """[B, T, D] after the final norm; of a decoder, the virtual tokens' first. Lengths are checked before."""
    virtual = routed_virtual_ids(reader.network)
    for name, documents, before in (
        ("input_ids", "document_ids", len(virtual)),
        ("decoder_input_ids", "decoder_document_ids", 0),
    ):
        if name in tensors:
            _check_length(reader, name, tensors[name], tensors.get(documents), before)
    hidden_states: Tensor = reader.network(**(_behind(virtual, tensors) if virtual else tensors))
    return hidden_states


def _virtual_positions(reader: Reader) -> int:
    """How many hidden states of a row are those of virtual tokens."""
    return len(routed_virtual_ids(reader.network)) if reader.config.stacks == "decoder" else 0


def _behind(virtual: Sequence[int], tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inputs, with virtual tokens before those of each row."""
    for name in ("prefix_mask", "document_ids"):
        if name in tensors:
            raise SettingError("cannot be given where the adapter has virtual tokens.", where=name)
    ids = tensors["input_ids"]
    before = {"input_ids": ids.new_tensor(virtual).expand(len(ids), -1)}
    if "attention_mask" in tensors:
        before["attention_mask"] = torch.ones_like(before["input_ids"], dtype=tensors["attention_mask"].dtype)
    return {**tensors, **{name: torch.cat((each, tensors[name]), dim=1) for name, each in before.items()}}


def _check_known(reader: Reader, ids: Tensor, name: str) -> None:
    """Refuse ids that have no row in the embedding."""
    rows = reader.config.vocab_size
    if ids.numel() and not 0 <= int(ids.min()) <= int(ids.max()) < rows:
        raise SettingError(f"has a token id outside the model's vocabulary of {rows:,}.", where=name)


def _check_length(reader: Reader, name: str, ids: Tensor, document_ids: Tensor | None, before: int) -> None:
    """Refuse rows longer than the learned positions that the tokens `before` them leave. Packed documents each begin at
    the first position.
    """
    if ids.dim() != 2:
        raise SettingError(f"must have two dimensions [B, T], not {ids.dim()}.", where=name)
    _check_known(reader, ids, name)
    known, length = reader.config.max_position_embeddings - before, ids.shape[1]
    if length > known and document_ids is not None and document_ids.shape == ids.shape:
        length = longest_document(document_ids)
    if reader.config.positions == "learned" and length > known:
        raise ContextWindowError(f"has {length:,} tokens, and the model has positions for {known:,}.", where=name)


def _moved_right(reader: Reader, labels: Tensor, document_ids: Tensor | None) -> Tensor:
    """What a decoder reads to write labels [B, T]: the token it starts with, then all labels but the last."""
    start = reader.decoder_start_id
    padding = reader.hf_generation_config.get("pad_token_id")
    if padding is None:
        padding = start if reader.tokenizer.pad_id is None else reader.tokenizer.filler_id
    moved = labels.roll(1, -1)
    moved = moved.masked_fill(moved == IGNORED, padding)
    moved[:, :1] = start
    if document_ids is None or document_ids.shape != labels.shape:  # which the network refuses
        return moved
    return moved.masked_fill(document_starts(document_ids), start)


def _real_tokens(tensors: Mapping[str, Tensor]) -> Tensor:
    """Labels [B, T] of every token that is real and in no prefix."""
    labels = tensors["input_ids"]
    if "attention_mask" in tensors:
        labels = labels.masked_fill(tensors["attention_mask"] == 0, IGNORED)
    if "prefix_mask" in tensors:
        labels = labels.masked_fill(tensors["prefix_mask"] != 0, IGNORED)
    return labels
