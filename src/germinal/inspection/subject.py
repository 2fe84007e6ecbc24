"""The subject of an inspection: one prompt after one forward pass through a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from germinal.errors import SettingError
from germinal.inspection.spelling import spelt
from germinal.language_model import LanguageModel
from germinal.layers.adapters import refuse_virtual_tokens, routed
from germinal.models.inspection import Trace, trace
from germinal.text.content import Content

_ANSWERED = 12
"""Most tokens that an encoder-decoder generates when it is not given a target."""


@dataclass(frozen=True)
class Subject:
    """The prompt and the model's forward pass over it.

    Attributes:
        lm: The model.
        ids: Token ids of the prompt.
        trace: The states and attention maps of the pass.
    """

    lm: LanguageModel
    ids: tuple[int, ...]
    trace: Trace

    def spelt(self, ids: Sequence[int]) -> list[str]:
        """Tokens as shown in pictures."""
        return spelt(self.lm.tokenizer, ids)

    @cached_property
    def mask(self) -> int | None:
        """Position of the first mask token, or None if there is none."""
        token = self.lm.tokenizer.special_tokens.get("mask_token")
        if token is None:
            return None
        id = self.lm.tokenizer.backend.token_to_id(token)
        return self.ids.index(id) if id in self.ids else None

    @property
    def fills_masks(self) -> bool:
        """Whether the model predicts the token at a position rather than the one after it."""
        return self.lm.config.stacks == "encoder"

    @property
    def place(self) -> int:
        """Position of the prediction that is shown in detail."""
        if self.fills_masks:
            return 0 if self.mask is None else self.mask
        return len(self.trace.ids) - 1


def look(lm: LanguageModel, prompt: Content, target: str | None) -> Subject:
    """Run the model on the prompt.

    Raises:
        SettingError: a target was given, but the model is not an encoder-decoder.
        ContextWindowError: the prompt does not fit the context window.
    """
    refuse_virtual_tokens(lm.network, lm.adapter, "be looked into")
    ids = lm.encode_prompt(prompt)
    two_stacks = lm.two_stacks
    if target is not None and not two_stacks:
        raise SettingError(
            "a target is for encoder-decoders, but the model has only one stack.",
            where="target",
            hint="Leave out the target, or append it to the prompt.",
        )
    written = None
    if two_stacks:
        if target is not None:
            answer = tuple(lm.tokenizer.encode(target, add_special_tokens=False))
        elif lm.config.head == "lm":
            answer = lm.generate(prompt, temperature=0.0, max_new_tokens=_ANSWERED).token_ids
        else:
            answer = ids[:-1]  # with another head, the decoder reads the text a second time
        written = (lm.decoder_start_id, *answer)
    with routed(lm.network, lm.adapter):
        return Subject(lm, ids, trace(lm.network, ids, written))


def facts(lm: LanguageModel) -> tuple[str, ...]:
    """Short descriptions of a model: family, architecture, sizes, precision."""
    config = lm.config
    encoder = config.encoder_layers if config.stacks == "encoder-decoder" else config.num_layers
    layers = {
        "decoder": f"{config.num_layers} layers",
        "encoder": f"{config.num_layers} layers",
        "encoder-decoder": f"{encoder} + {config.num_layers} layers",
    }[config.stacks]
    heads = f"{config.num_encoder_heads} + {config.num_heads}" if config.num_encoder_heads else f"{config.num_heads}"
    grouped = f", {config.num_kv_heads} for keys and values" if config.num_kv_heads != config.num_heads else ""
    return (
        lm.family.name,
        config.stacks,
        f"{lm.network.num_parameters():,} parameters",
        f"{layers} of {heads} heads{grouped}",
        f"hidden size {config.hidden_size:,}",
        f"vocabulary {config.vocab_size:,}",
        f"context window {config.max_position_embeddings:,}",
        lm.precision,
    )
