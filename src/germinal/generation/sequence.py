"""A sequence: one prompt, what is wanted after it, and how far it has come."""

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
    """One stream of tokens through the engine. It either generates, or scores given tokens.

    Args:
        prompt_ids: The prompt, at least one token; of an encoder-decoder what its decoder starts with.
        config: How to generate. Its `n` and `stop` strings are not looked at: several answers are several sequences,
            and text is not the engine's business.
        target_ids: Tokens to score after the prompt in place of generating.
        adapter: Name of the adapter that the tokens go through.
        index: Which of several answers to one prompt this is; each draws its own random numbers.
        forks: Sequences with the same prompt, encoder input and adapter. They start when this one's prompt has been
            computed and share it, so that several answers to a prompt, or several scored continuations, cost it once.
            None of them searches with beams.
        encoder_input_ids: What an encoder-decoder's encoder reads, at least one token.

    Attributes:
        ids: The prompt and what follows it, as far as known.
        token_ids: The tokens generated so far, without the end-of-sequence token.
        tokens: The same with log-probabilities, where asked for.
        target_logprobs: Log-probability of each target token in nats, as far as known.
        finish_reason: None while running; "stop" (an end-of-sequence token, or all targets scored), "length" or
            "cancelled".
        cached_tokens: Prompt tokens that were not computed again, because another sequence had them.
        num_computed: Tokens whose keys and values lie in the cache.
        computed_tokens: Tokens that have gone through the network for it, those of its encoder input included.
        encoded_tokens: Those of its encoder input alone; 0 when another sequence had it encoded.

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
    ) -> None:
        self.prompt_ids = tuple(prompt_ids)
        self.config = config or GenerationConfig()
        self.target_ids = None if target_ids is None else tuple(target_ids)
        self.adapter = adapter
        self.forks = tuple(forks)
        self.encoder_input_ids = None if encoder_input_ids is None else tuple(encoder_input_ids)
        self.sampler = Sampler(self.config, self.prompt_ids, index)
        self.ids = [*self.prompt_ids, *(self.target_ids or ())]
        self.token_ids: list[int] = []
        self.tokens: list[SampledToken] = []
        self.target_logprobs: list[float] = []
        self.finish_reason: FinishReason | None = None
        self.cached_tokens = 0
        self.num_computed = 0
        self.computed_tokens = 0
        self.encoded_tokens = 0
        for name, what in _NO_TOKENS.items():
            if getattr(self, name) == ():
                raise SettingError(what, where=name, hint="Give at least one token.")
        start = (self.prompt_ids, self.encoder_input_ids, self.adapter)
        if any((fork.prompt_ids, fork.encoder_input_ids, fork.adapter) != start for fork in self.forks):
            raise SettingError("a fork must have the same prompt, encoder input and adapter.", where="forks")
        if any(fork.num_beams > 1 for fork in self.forks):
            raise SettingError("a fork cannot search with beams.", where="forks", hint="Let it lead.")

    @property
    def num_beams(self) -> int:
        """How many beams its answer is searched with; 1 when it scores."""
        return self.config.num_beams if self.target_ids is None else 1

    @property
    def finished(self) -> bool:
        return self.finish_reason is not None

    @property
    def prompt_tokens(self) -> int:
        """Length of the prompt; of an encoder-decoder that of its encoder input."""
        return len(self.prompt_ids if self.encoder_input_ids is None else self.encoder_input_ids)

    @property
    def cached_prompt_tokens(self) -> int:
        """How many of `prompt_tokens` were not computed again."""
        return self.cached_tokens if self.encoder_input_ids is None else self.prompt_tokens - self.encoded_tokens

    @property
    def num_known(self) -> int:
        """Tokens to run before the engine has to choose another: nothing is asked after the last target."""
        return len(self.ids) - (self.target_ids is not None)

    @property
    def pending(self) -> int:
        """Tokens known but not yet computed."""
        return self.num_known - self.num_computed

    @property
    def most_tokens(self) -> int:
        """Places that the sequence may come to need in the cache."""
        return self.num_known if self.target_ids is not None else len(self.prompt_ids) + self.config.max_new_tokens

    def wanted_logits(self, count: int) -> int:
        """Of the next `count` tokens, how many, counted from the last, predict something that is not yet known."""
        end = self.num_computed + count
        if self.target_ids is None:
            return int(end == self.num_known)
        first = len(self.prompt_ids) - 1 + len(self.target_logprobs)
        return max(0, end - max(self.num_computed, first))

    def append(self, token: SampledToken, window: int) -> None:
        """Take the next token of the answer; end at an end-of-sequence token, `max_new_tokens` or the window.

        Where the last token is forced to be one that ends the answer, its length ended it.
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
        """Take the log-probabilities of the next targets; end after the last."""
        assert self.target_ids is not None
        self.target_logprobs.extend(logprobs)
        if len(self.target_logprobs) == len(self.target_ids):
            self.finish_reason = "stop"

    def check_fits(self, window: int) -> None:
        """Refuse what a context window of so many tokens cannot hold. An encoder has a window of its own, as wide.

        Raises:
            ContextWindowError: says how long the prompt (and target) is.
        """
        hint = "Shorten the prompt, or choose a policy that drops examples or cuts the input."
        if self.encoder_input_ids is not None and len(self.encoder_input_ids) > window:
            length = len(self.encoder_input_ids)
            raise ContextWindowError(
                f"the prompt of {length} tokens does not fit the encoder's window of {window}.", hint=hint
            )
        scores = self.target_ids is not None
        if len(self.ids) + (not scores) > window:
            what = "with the continuation to score" if scores else "with one more token"
            raise ContextWindowError(
                f"the prompt of {len(self.prompt_ids)} tokens {what} does not fit the context window of {window}.",
                hint=hint,
            )
