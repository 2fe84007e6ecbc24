"""A sequence: one prompt, what to generate or score after it, and the progress so far."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from germinal.errors import ContextWindowError, SettingError
from germinal.generation.config import GenerationConfig
from germinal.generation.sampler import SampledToken, Sampler

FinishReason = Literal["stop", "length", "cancelled"]

_NO_TOKENS = {
    "prompt_ids": "the prompt has no tokens.",
    "target_ids": "there are no tokens to score.",
    "encoder_input_ids": "the encoder input has no tokens.",
}


class Sequence:
    """One sequence of tokens in the engine. It either generates tokens or scores given ones.

    Args:
        prompt_ids: The prompt, at least one token; for an encoder-decoder, the tokens that its decoder starts with.
        config: How to generate. `n` and `stop` are not used: each answer is a sequence of its own, and the engine does
            not see text.
        target_ids: Tokens to score after the prompt, instead of generating.
        adapter: Name of the adapter to use.
        index: Number of this answer among several to one prompt; each has its own random numbers.
        forks: Sequences with the same prompt, encoder input and adapter, none of them a beam search. They start once
            this sequence has computed the prompt, and share it.
        encoder_input_ids: Input of an encoder-decoder's encoder, at least one token.
        virtual_ids: The virtual tokens of the adapter. They stand before the prompt, of an encoder-decoder before the
            encoder input, and count as part of it, but no processor and no seed knows them.

    Attributes:
        ids: The prompt and all known tokens after it.
        token_ids: The tokens generated so far, without the end-of-sequence token.
        tokens: The same tokens with log-probabilities, if the config asks for them.
        target_logprobs: Log-probabilities of the targets scored so far, in nats.
        finish_reason: None while running; "stop" (an end-of-sequence token, or all targets scored), "length" or
            "cancelled".
        cached_tokens: Prompt tokens taken from the cache instead of being computed.
        num_computed: Tokens whose keys and values are in the cache.
        computed_tokens: Tokens run through the network for this sequence, including its encoder input.
        encoded_tokens: Tokens of the encoder input among these; 0 if the encoded input came from the cache.

    Raises:
        SettingError: the prompt, the encoder input or the target is empty, or a fork has another prompt.
    """

    def __init__(
        self,
        prompt_ids: Iterable[int],
        config: GenerationConfig | None = None,
        *,
        target_ids: Iterable[int] | None = None,
        adapter: str | None = None,
        index: int = 0,
        forks: Iterable[Sequence] = (),
        encoder_input_ids: Iterable[int] | None = None,
        virtual_ids: Iterable[int] = (),
    ) -> None:
        self.prompt_ids = tuple(prompt_ids)
        self.config = config or GenerationConfig()
        self.target_ids = None if target_ids is None else tuple(target_ids)
        self.adapter = adapter
        self.forks = tuple(forks)
        self.encoder_input_ids = None if encoder_input_ids is None else tuple(encoder_input_ids)
        self.sampler = Sampler(self.config, self.prompt_ids, index, drawn_for=self.encoder_input_ids)
        self._check_tokens()
        if self.encoder_input_ids is None:
            self.prompt_ids = (*virtual_ids, *self.prompt_ids)
        else:
            self.encoder_input_ids = (*virtual_ids, *self.encoder_input_ids)
        self.ids = [*self.prompt_ids, *(self.target_ids or ())]
        self.token_ids: list[int] = []
        self.tokens: list[SampledToken] = []
        self.target_logprobs: list[float] = []
        self.finish_reason: FinishReason | None = None
        self.cached_tokens = 0
        self.num_computed = 0
        self.computed_tokens = 0
        self.encoded_tokens = 0
        start = (self.prompt_ids, self.encoder_input_ids, self.adapter)
        if any((fork.prompt_ids, fork.encoder_input_ids, fork.adapter) != start for fork in self.forks):
            raise SettingError("a fork must have the same prompt, encoder input and adapter.", where="forks")
        if any(fork.num_beams > 1 for fork in self.forks):
            raise SettingError(
                "a fork cannot search with beams.", where="forks", hint="Make it the sequence that has the forks."
            )

    def _check_tokens(self) -> None:
        for name, what in _NO_TOKENS.items():
            if getattr(self, name) == ():
                raise SettingError(what, where=name, hint="Give at least one token.")

    @property
    def num_beams(self) -> int:
        """Number of beams; 1 if the sequence scores."""
        return self.config.num_beams if self.target_ids is None else 1

    @property
    def finished(self) -> bool:
        return self.finish_reason is not None

    @property
    def prompt_tokens(self) -> int:
        """Length of the prompt; for an encoder-decoder, of the encoder input."""
        return len(self.prompt_ids if self.encoder_input_ids is None else self.encoder_input_ids)

    @property
    def cached_prompt_tokens(self) -> int:
        """How many of the `prompt_tokens` came from the cache."""
        return self.cached_tokens if self.encoder_input_ids is None else self.prompt_tokens - self.encoded_tokens

    @property
    def num_known(self) -> int:
        """Known tokens that must be computed. The last target is not one: nothing is predicted from it."""
        return len(self.ids) - (self.target_ids is not None)

    @property
    def pending(self) -> int:
        """Tokens that must still be computed before the next one can be chosen."""
        return self.num_known - self.num_computed

    @property
    def most_tokens(self) -> int:
        """The largest number of cache positions that the sequence can need."""
        return self.num_known if self.target_ids is not None else len(self.prompt_ids) + self.config.max_new_tokens

    def wanted_logits(self, count: int) -> int:
        """How many of the next `count` tokens need logits. These are always the last ones."""
        first = self.num_known - 1  # position of the first token that needs them
        if self.target_ids is not None:
            first = len(self.prompt_ids) - 1 + len(self.target_logprobs)
        return max(0, self.num_computed + count - first)

    def append(self, token: SampledToken, window: int) -> None:
        """Append a generated token. End at an end-of-sequence token, at `max_new_tokens` or at the context window.

        If the end-of-sequence token was forced by `forced_eos_id`, the finish reason is "length".
        """
        if token.id in (self.config.eos_ids or ()):
            forced = self.config.forced_eos_id is not None and len(self.token_ids) == self.config.max_new_tokens - 1
            self.finish_reason = "length" if forced else "stop"
            return
        self.token_ids.append(token.id)
        self.tokens.append(token)
        self.ids.append(token.id)
        if len(self.token_ids) >= self.config.max_new_tokens or len(self.ids) >= window:
            self.finish_reason = "length"

    def append_scores(self, logprobs: list[float]) -> None:
        """Append the log-probabilities of the next targets, in nats. End after the last target."""
        assert self.target_ids is not None
        self.target_logprobs.extend(logprobs)
        if len(self.target_logprobs) == len(self.target_ids):
            self.finish_reason = "stop"

    def check_fits(self, window: int) -> None:
        """Check that the sequence fits a context window of `window` tokens. The encoder has one of the same size.

        Raises:
            ContextWindowError: it does not fit.
        """
        if self.encoder_input_ids is not None and len(self.encoder_input_ids) > window:
            length = len(self.encoder_input_ids)
            message = f"the prompt of {length} tokens does not fit the encoder's window of {window}."
        elif self.num_known + 1 > window:
            what = "one more token" if self.target_ids is None else "the continuation to score"
            message = (
                f"the prompt of {len(self.prompt_ids)} tokens with {what} does not fit the context window of {window}."
            )
        else:
            return
        hint = "Shorten the prompt, or choose a policy that drops examples or cuts the input."
        raise ContextWindowError(message, hint=hint)
