"""A sequence: one prompt, what is wanted after it, and how far it has come."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from germinal.errors import ContextWindowError, SettingError
from germinal.generation.config import GenerationConfig
from germinal.generation.sampler import SampledToken, Sampler

FinishReason = Literal["stop", "length", "cancelled"]


class Sequence:
    """One stream of tokens through the engine. It either generates, or scores given tokens.

    Args:
        prompt_ids: The prompt, at least one token.
        config: How to generate. Its `n` and `stop` strings are not looked at: several answers are several sequences,
            and text is not the engine's business.
        target_ids: Tokens to score after the prompt in place of generating.
        adapter: Name of the adapter that the tokens go through.
        index: Which of several answers to one prompt this is; each draws its own random numbers.
        followers: Sequences with the same prompt and adapter. They start when this one's prompt has been computed and
            share it, so that several answers to a prompt, or several scored continuations, cost it once.

    Attributes:
        token_ids: The tokens generated so far, without the end-of-sequence token.
        tokens: The same with log-probabilities, where asked for.
        target_logprobs: Log-probability of each target token, as far as known.
        finish_reason: None while running; "stop" (an end-of-sequence token, or all targets scored), "length" or
            "cancelled".
        cached_tokens: Prompt tokens that were not computed again, because another sequence had them.

    Raises:
        SettingError: the prompt or the target is empty, or a follower has another prompt.
    """

    def __init__(
        self,
        prompt_ids: Iterable[int],
        config: GenerationConfig | None = None,
        *,
        target_ids: Iterable[int] | None = None,
        adapter: str | None = None,
        index: int = 0,
        followers: Iterable[Sequence] = (),
    ) -> None:
        self.prompt_ids = tuple(prompt_ids)
        self.config = config or GenerationConfig()
        self.target_ids = None if target_ids is None else tuple(target_ids)
        self.adapter = adapter
        self.followers = tuple(followers)
        self.token_ids: list[int] = []
        self.tokens: list[SampledToken] = []
        self.target_logprobs: list[float] = []
        self.finish_reason: FinishReason | None = None
        self.cached_tokens = 0
        self.num_computed = 0
        self.sampler = Sampler(self.config, self.prompt_ids, index)
        self._ids = [*self.prompt_ids, *(self.target_ids or ())]
        if not self.prompt_ids:
            raise SettingError("the prompt has no tokens.", where="prompt_ids", hint="Give at least one token.")
        if self.target_ids == ():
            raise SettingError("there are no tokens to score.", where="target_ids")
        if any((follower.prompt_ids, follower.adapter) != (self.prompt_ids, adapter) for follower in self.followers):
            raise SettingError("a follower must have the same prompt and adapter.", where="followers")

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

    def check_fits(self, window: int) -> None:
        """Refuse what a context window of so many tokens cannot hold.

        Raises:
            ContextWindowError: says how long the prompt (and target) is.
        """
        needed = len(self._ids) if self.target_ids is not None else len(self._ids) + 1
        if needed > window:
            what = "with the continuation to score" if self.target_ids is not None else "with one more token"
            raise ContextWindowError(
                f"the prompt of {len(self.prompt_ids)} tokens {what} does not fit the context window of {window}.",
                hint="Shorten the prompt, or choose a policy that drops examples or cuts the input.",
            )

    def append(self, token: SampledToken, window: int) -> None:
        """Take the next token of the answer; end at an end-of-sequence token, `max_new_tokens` or the window."""
        if token.id in (self.config.eos_ids or ()):
            self.finish_reason = "stop"
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
