"""Fitting a prompt into a model's context window, by an explicit policy and with a report of what was dropped.

The window holds the prompt and the answer, so space for the answer is reserved first. In an encoder-decoder each stack
has a window of its own, and the prompt may fill the encoder's. Policies:

- `error`: a prompt that does not fit is an error that states the token counts;
- `drop_examples`: worked examples are dropped, the one furthest from the input first;
- `truncate_input`: the input loses tokens at one end, and everything else stays whole.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

from germinal.errors import ContextWindowError, SettingError, nearest
from germinal.text.chat_template import ChatTemplate, Message
from germinal.text.content import encode_prompt
from germinal.text.prompt import Example, Prompt
from germinal.text.tokenizer import Tokenizer

Policy = Literal["error", "drop_examples", "truncate_input"]
Side = Literal["right", "left"]


@dataclass(frozen=True, slots=True)
class FittedPrompt:
    """A prompt as the model reads it.

    Attributes:
        text: The whole text, including the special tokens that a chat template writes.
        ids: Its token ids.
        dropped_examples: Number of worked examples left out, starting with the first.
        truncated_tokens: Number of tokens the input lost.
        messages: The messages of a chat, of which the template made the text.
    """

    text: str
    ids: tuple[int, ...]
    dropped_examples: int = 0
    truncated_tokens: int = 0
    messages: tuple[Message, ...] = ()


@dataclass(frozen=True, slots=True)
class ContextWindow:
    """How many tokens a model can read and write, and what to do with a longer prompt.

    Attributes:
        size: Most tokens of prompt and answer together, or of each in an encoder-decoder.
        policy: `error`, `drop_examples` or `truncate_input`.
        truncate_side: The end of the input at which `truncate_input` cuts.
        two_stacks: Whether an encoder reads the prompt and a decoder writes the answer in a window of its own.
    """

    size: int
    policy: Policy = "error"
    truncate_side: Side = "right"
    two_stacks: bool = False

    def __post_init__(self) -> None:
        for key, allowed in (("policy", get_args(Policy)), ("truncate_side", get_args(Side))):
            if (value := getattr(self, key)) not in allowed:
                raise SettingError(f"{value!r} is not known.", where=key, hint=nearest(str(value), list(allowed)))
        if self.size < 1:
            raise SettingError(f"a context window needs at least 1 token, not {self.size}.", where="size")

    def fit(
        self,
        prompt: Prompt,
        input: str,
        examples: Sequence[Example] = (),
        *,
        tokenizer: Tokenizer,
        chat_template: ChatTemplate | None = None,
        reserve: int = 0,
        answered: bool = True,
    ) -> FittedPrompt:
        """Render the prompt so that it and `reserve` tokens of answer fit.

        Args:
            chat_template: The template of a chat prompt; None takes the tokenizer's own.
            answered: Whether an answer is to be written, and not the prompt to be read alone, with the special tokens
                that end a text.

        Raises:
            ContextWindowError: the prompt cannot be made to fit under the policy, or the answer is longer than the
                decoder's window.
        """
        room = self.size if self.two_stacks else self.size - reserve
        if self.two_stacks and reserve >= self.size:  # the decoder's start token takes one place
            what = f"the answer may take {reserve:,} tokens, but the decoder writes at most {self.size - 1:,}."
            raise ContextWindowError(what, hint="Set a lower max_new_tokens.")
        renderer = _Renderer(prompt, tokenizer, chat_template or tokenizer.template, answered and not self.two_stacks)
        whole = renderer.render(input, examples)
        if len(whole.ids) <= room:
            return whole
        if self.policy == "drop_examples":
            for dropped in range(1, len(examples) + 1):
                shorter = renderer.render(input, examples[dropped:])
                if len(shorter.ids) <= room:
                    return replace(shorter, dropped_examples=dropped)
        elif self.policy == "truncate_input" and (cut := self._cut(renderer, input, examples, room)):
            return cut
        raise self._refusal(len(whole.ids), reserve, len(examples))

    def _cut(self, renderer: _Renderer, input: str, examples: Sequence[Example], room: int) -> FittedPrompt | None:
        """The prompt with the longest part of the input that fits, or None if not even one token fits."""
        _, spans = renderer.tokenizer.encode_with_spans(input)
        cuts = _cuts(input, spans, self.truncate_side)

        def fitted(place: int) -> FittedPrompt:
            kept, text = cuts[place]
            whole = renderer.render(text, examples)
            return replace(whole, truncated_tokens=len(spans) - kept)

        # Tokens at a cut may merge differently with their new neighbours, so lengths do not add up: each candidate is
        # rendered and counted. Bisection only returns a place whose prompt it has seen to fit.
        longer = bisect_left(range(len(cuts)), True, key=lambda place: len(fitted(place).ids) > room)
        return fitted(longer - 1) if longer else None

    def _refusal(self, tokens: int, reserve: int, shots: int) -> ContextWindowError:
        answer, window = f" and the answer may take {reserve:,}", "context window"
        if self.two_stacks:
            answer, window = "", "encoder's window"
        what = f"the prompt has {tokens:,} tokens{answer}, but the {window} holds {self.size:,}"
        tried = {
            "error": ".",
            "drop_examples": f", even without any of the {shots} examples.",
            "truncate_input": f", even with the input cut to one token (instruction and {shots} examples are kept).",
        }
        advice = {
            "error": "Shorten it, or set the policy drop_examples or truncate_input.",
            "drop_examples": "Shorten the input or the answer, or set the policy truncate_input.",
            "truncate_input": "Use fewer shots, a shorter instruction, or a model with a longer window.",
        }
        return ContextWindowError(what + tried[self.policy], hint=advice[self.policy])


@dataclass(frozen=True, slots=True)
class _Renderer:
    """Renders inputs and examples with one prompt and one tokenizer."""

    prompt: Prompt
    tokenizer: Tokenizer
    template: ChatTemplate
    goes_on: bool

    def render(self, input: str, examples: Sequence[Example]) -> FittedPrompt:
        if self.prompt.chat:
            # The template writes the special tokens itself; encoding must not add them again.
            messages = self.prompt.messages(input, examples)
            text = self.template.render(messages)
            ids = self.tokenizer.encode(text, add_special_tokens=False)
            return FittedPrompt(text, tuple(ids), messages=tuple(messages))
        text = self.prompt.text(input, examples)
        return FittedPrompt(text, encode_prompt(text, self.tokenizer, answered=self.goes_on))


def _cuts(text: str, spans: Sequence[tuple[int, int]], side: Side) -> list[tuple[int, str]]:
    """Every text that remains after cutting tokens off at `side`, shortest first, with its number of tokens.

    Several tokens may spell one character (an emoji); the text is not cut between them.
    """
    borders = [place for place in range(1, len(spans)) if spans[place - 1][1] <= spans[place][0]]
    if side == "right":
        cuts = [(place, text[: spans[place - 1][1]]) for place in borders]
    else:
        cuts = [(len(spans) - place, text[spans[place][0] :]) for place in reversed(borders)]
    return [(kept, rest) for kept, rest in cuts if rest]
