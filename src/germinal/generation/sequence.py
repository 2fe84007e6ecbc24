"""A sequence: one prompt, what is wanted after it, and how far it has come."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal

from germinal.errors import ContextWindowError, SettingError
from germinal.generation.config import GenerationConfig
from germinal.generation.sampler import SampledToken, Sampler

if TYPE_CHECKING:
    from germinal.generation.beam_search import BeamSearch

FinishReason = Literal["stop", "length", "cancelled"]


class Sequence:
    """One stream of tokens through the engine. It either generates, or scores given tokens.

    Args:
        prompt_ids: The prompt, at least one token; of an encoder-decoder what its decoder starts with.
        config: How to generate. Its `n` and `stop` strings are not looked at: several answers are several sequences,
            and text is not the engine's business.
        target_ids: Tokens to score after the prompt in place of generating.
        adapter: Name of the adapter that the tokens go through.
        index: Which of several answers to one prompt this is; each draws its own random numbers.
        forks: Sequences with the same prompt, source and adapter. They start when this one's prompt has been
            computed and share it, so that several answers to a prompt, or several scored continuations, cost it once.
            None of them searches with beams.
        encoder_input_ids: What an encoder-decoder's encoder reads, at least one token.

    Attributes:
        token_ids: The tokens generated so far, without the end-of-sequence token.
        tokens: The same with log-probabilities, where asked for.
        target_logprobs: Log-probability of each target token, as far as known.
        finish_reason: None while running; "stop" (an end-of-sequence token, or all targets scored), "length" or
            "cancelled".
        cached_tokens: Prompt tokens that were not computed again, because another sequence had them.
        num_computed: Tokens whose keys and values lie in the cache.
        computed_tokens: Tokens that have gone through the network for it, those of its source and beams included.
        encoded_tokens: Those of its source alone; 0 when another sequence had it encoded.
        search: The beam search that it leads or is a beam of, once it has begun.

    Raises:
        SettingError: the prompt, the source or the target is empty, or a fork has another prompt.
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
        self.token_ids: list[int] = []
        self.tokens: list[SampledToken] = []
        self.target_logprobs: list[float] = []
        self.finish_reason: FinishReason | None = None
        self.cached_tokens = 0
        self.num_computed = 0
        self.computed_tokens = 0
        self.encoded_tokens = 0
        self.search: BeamSearch | None = None
        self.sampler = Sampler(self.config, self.prompt_ids, index)
        self._ids = [*self.prompt_ids, *(self.target_ids or ())]
        if not self.prompt_ids:
            raise SettingError("the prompt has no tokens.", where="prompt_ids", hint="Give at least one token.")
        if self.target_ids == ():
            raise SettingError("there are no tokens to score.", where="target_ids")
        if self.encoder_input_ids == ():
            raise SettingError("the source has no tokens.", where="encoder_input_ids", hint="Give at least one token.")
        if any(fork.origin != self.origin for fork in self.forks):
            raise SettingError("a fork must have the same prompt, source and adapter.", where="forks")
        if any(fork.num_slots > 1 for fork in self.forks):
            raise SettingError("a fork cannot search with beams.", where="forks", hint="Let it lead.")

    @property
    def origin(self) -> tuple[tuple[int, ...], tuple[int, ...] | None, str | None]:
        """What forks share: prompt, source and adapter."""
        return self.prompt_ids, self.encoder_input_ids, self.adapter

    @property
    def num_slots(self) -> int:
        """Places in the cache that it takes when it runs: one, or one a beam."""
        return self.config.num_beams if self.target_ids is None else 1

    @property
    def beams(self) -> tuple[Sequence, ...]:
        """The sequence itself, or the beams of its search once that has begun; the sequence is the first of them."""
        return (self,) if self.search is None else self.search.beams

    @property
    def prompt_tokens(self) -> int:
        """Length of the prompt; of an encoder-decoder of its source."""
        return len(self.prompt_ids if self.encoder_input_ids is None else self.encoder_input_ids)

    @property
    def cached_prompt_tokens(self) -> int:
        """Of the prompt's tokens, or the source's, those that were not computed again."""
        return self.cached_tokens if self.encoder_input_ids is None else self.prompt_tokens - self.encoded_tokens

    @property
    def finished(self) -> bool:
        return self.finish_reason is not None

    @property
    def ids(self) -> list[int]:
        """Prompt and what follows it, as far as known."""
        return self._ids

    @property
    def num_known(self) -> int:
        """Tokens to run before the engine has to choose another: the last target's own successor is of no interest."""
        return len(self._ids) - (self.target_ids is not None)

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

    def computed(self, end: int, encoded: int = 0) -> None:
        """Note that the tokens before position `end` have been computed, and so many of the source."""
        counted = self if self.search is None else self.search.lead
        counted.computed_tokens += end - self.num_computed + encoded
        self.encoded_tokens += encoded
        self.num_computed = end

    def go_on_from(self, token_ids: Iterable[int]) -> None:
        """Let a beam go on after other tokens than before, the last of which has not been computed."""
        self._ids = [*self.prompt_ids, *token_ids]
        self.num_computed = len(self._ids) - 1

    def conclude(self, token_ids: Iterable[int], window: int) -> None:
        """Take a whole answer, which a search has found."""
        self._ids = list(self.prompt_ids)
        for token in token_ids:
            self.append(SampledToken(token), window)
        assert self.finished

    def check_fits(self, window: int) -> None:
        """Refuse what a context window of so many tokens cannot hold. An encoder has a window of its own, as wide.

        Raises:
            ContextWindowError: says how long the prompt (and target) is.
        """
        if self.encoder_input_ids is not None and len(self.encoder_input_ids) > window:
            raise ContextWindowError(
                f"the prompt of {len(self.encoder_input_ids)} tokens does not fit the encoder's window of {window}.",
                hint="Shorten the prompt, or choose a policy that drops examples or cuts the input.",
            )
        needed = len(self._ids) if self.target_ids is not None else len(self._ids) + 1
        if needed > window:
            what = "with the continuation to score" if self.target_ids is not None else "with one more token"
            raise ContextWindowError(
                f"the prompt of {len(self.prompt_ids)} tokens {what} does not fit the context window of {window}.",
                hint="Shorten the prompt, or choose a policy that drops examples or cuts the input.",
            )

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
        self._ids.append(token.id)
        if len(self.token_ids) >= self.config.max_new_tokens or len(self._ids) >= window:
            self.finish_reason = "length"

    def append_scores(self, logprobs: list[float]) -> None:
        """Take the log-probabilities of the next targets; end after the last."""
        assert self.target_ids is not None
        self.target_logprobs.extend(logprobs)
        if len(self.target_logprobs) == len(self.target_ids):
            self.finish_reason = "stop"
