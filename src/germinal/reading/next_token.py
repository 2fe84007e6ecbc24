"""The moment before the next token: which tokens attend to which, and how the next one is chosen."""

from __future__ import annotations

import torch

from germinal.errors import SettingError
from germinal.generation.config import GenerationConfig
from germinal.generation.distribution import NextTokenDistribution
from germinal.generation.distribution import next_token_distribution as distribution
from germinal.layers.adapters import routed_virtual_ids
from germinal.models.inspection import AttentionMaps, trace
from germinal.reading.reader import Reader
from germinal.text.content import Content, encode_prompt


def attention_maps(reader: Reader, text: Content, target: str | None = None) -> AttentionMaps:
    """The attention of each layer and head while the model reads a text, float32 [L, H, T, S].

    Args:
        text: What it reads.
        target: What an encoder-decoder has written so far; None is nothing.

    Raises:
        SettingError: a target was given to a model with one stack.
        ContextWindowError: there are more tokens than positions.
    """
    return trace(reader.network, _read(reader, text), _written(reader, target)).attention


@torch.inference_mode()
def next_token_distribution(
    reader: Reader, config: GenerationConfig, text: Content, target: str | None = None
) -> NextTokenDistribution:
    """How the token after a text is chosen: the model's own distribution, and its change by each setting.

    Args:
        config: The generation settings.
        text, target: As of `attention_maps`.

    Raises:
        UnsupportedError: the model has no language-model head.
        SettingError, ContextWindowError: as of `attention_maps`.
    """
    reader.require_head("say what comes next", "lm")
    network, ids, written = reader.network, _read(reader, text), _written(reader, target)
    behind = (*routed_virtual_ids(network), *ids)
    hidden_states = trace(network, behind, written, attention=False).hidden_states  # [T, D]
    logits = network.logits(hidden_states[-1].to(network.device, network.dtype)).float().cpu()  # [V]
    start, answer = (ids, ()) if written is None else (written[:1], written[1:])
    return distribution(logits, config, start, answer)


def _read(reader: Reader, text: Content) -> tuple[int, ...]:
    config = reader.config
    return encode_prompt(text, reader.tokenizer, answered=config.stacks == "decoder" and config.head == "lm")


def _written(reader: Reader, target: str | None) -> tuple[int, ...] | None:
    """What the decoder of an encoder-decoder has read so far, its start token first; None for a model of one stack."""
    if reader.config.stacks != "encoder-decoder":
        if target is not None:
            raise SettingError("is for encoder-decoders, and this model has one stack.", where="target")
        return None
    ids = [] if target is None else reader.tokenizer.encode(target, add_special_tokens=False)
    return (reader.decoder_start_id, *ids)
