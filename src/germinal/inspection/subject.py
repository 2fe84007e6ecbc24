"""What is looked at: one prompt after one pass through one model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from germinal.errors import SettingError
from germinal.inspection.spelling import spelt
from germinal.language_model import LanguageModel
from germinal.layers.linear import adapter_routing
from germinal.models.inspection import Trace, trace
from germinal.text.content import Content

_ANSWERED = 12
"""Tokens that an encoder-decoder answers with when it is not told what it has written."""


@dataclass(frozen=True)
class Subject:
    """The prompt and what the model did with it.

    Attributes:
        lm: The model.
        ids: The prompt.
        trace: The pass.
    """

    lm: LanguageModel
    ids: tuple[int, ...]
    trace: Trace

    def spelt(self, ids: Sequence[int]) -> list[str]:
        """Tokens as pictures show them."""
        return spelt(self.lm.tokenizer, ids)

    @cached_property
    def mask(self) -> int | None:
        """The place of the first mask token, for a model that fills masks."""
        token = self.lm.tokenizer.special_tokens.get("mask_token")
        if token is None:
            return None
        id = self.lm.tokenizer.backend.token_to_id(token)
        return self.ids.index(id) if id in self.ids else None

    @property
    def fills_masks(self) -> bool:
        """Whether the model guesses the word at a place, rather than the one after it."""
        return self.lm.config.stacks == "encoder"

    @property
    def place(self) -> int:
        """The token whose guess is looked at most closely."""
        if self.fills_masks:
            return 0 if self.mask is None else self.mask
        return len(self.trace.ids) - 1


def look(lm: LanguageModel, prompt: Content, target: str | None) -> Subject:
    """Run the prompt once.

    Raises:
        SettingError: a target was given to a model with one stack.
        ContextWindowError: the prompt does not fit the context window.
    """
    ids = lm.encode_prompt(prompt)
    two_stacks = lm.two_stacks
    if target is not None and not two_stacks:
        raise SettingError("the model has one stack, and writes nothing beside its prompt.", where="target")
    written = None
    if two_stacks:
        if target is not None:
            answer = tuple(lm.tokenizer.encode(target, add_special_tokens=False))
        elif lm.config.head == "lm":
            answer = lm.generate(prompt, temperature=0.0, max_new_tokens=_ANSWERED).token_ids
        else:
            answer = ids[:-1]  # without words to write the decoder reads the text once more
        written = (lm.decoder_start_id, *answer)
    with adapter_routing(lm.network).using(lm.adapter):
        return Subject(lm, ids, trace(lm.network, ids, written))


def facts(lm: LanguageModel) -> tuple[str, ...]:
    """What a model is, in a few words each."""
    config = lm.config
    encoder = config.encoder_layers if config.stacks == "encoder-decoder" else config.num_layers
    layers = {
        "decoder": f"{config.num_layers} layers",
        "encoder": f"{config.num_layers} layers",
        "encoder-decoder": f"{encoder} + {config.num_layers} layers",
    }[config.stacks]
    grouped = f", {config.num_kv_heads} for keys and values" if config.num_kv_heads != config.num_heads else ""
    return (
        lm.family.name,
        config.stacks,
        f"{lm.network.num_parameters():,} parameters",
        f"{layers} of {config.num_heads} heads{grouped}",
        f"hidden size {config.hidden_size:,}",
        f"vocabulary {config.vocab_size:,}",
        f"context window {config.max_position_embeddings:,}",
        lm.precision,
    )
