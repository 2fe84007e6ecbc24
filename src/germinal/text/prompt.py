"""The prompt of a use case: an instruction, worked examples, the input, and the cue after which the answer starts.

As plain text without examples it has three lines:

    Classify this review:
    I loved this movie!
    Sentiment:

A worked example is the same three lines followed by a space and its target. Examples come first, and blocks are joined
by `separator`. In chat mode each example is a user turn (the same three lines) answered by an assistant turn that holds
the target alone, and the input is the last user turn; no system message is added.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from germinal.errors import SettingError
from germinal.text.chat_template import Message


@dataclass(frozen=True, slots=True)
class Example:
    """One worked example: an input and its right answer."""

    input: str
    target: str


@dataclass(frozen=True, slots=True)
class Prompt:
    """How an input is presented to a language model. A field's help is what the command line says of its option.

    Raises:
        SettingError: the answer cue ends in white space.
    """

    instruction: str = field(
        default="", metadata={"help": "First line of the prompt and of each worked example; no line when empty."}
    )
    answer: str = field(default="", metadata={"help": "Last line, after which the answer starts; no line when empty."})
    chat: bool = field(
        default=False, metadata={"help": "Write messages for the model's chat template instead of plain text."}
    )
    separator: str = field(default="\n\n", metadata={"help": "What stands between worked examples in plain text."})

    def __post_init__(self) -> None:
        if self.answer != self.answer.rstrip():
            raise SettingError(
                "the answer cue ends in whitespace, which would be tokenized separately from the word that follows.",
                where="answer",
                hint=f"Write {self.answer.rstrip()!r}; the space before the answer is added.",
            )

    def render(self, input: str, examples: Sequence[Example] = ()) -> str | list[Message]:
        """Plain text, or the messages of a chat when `chat` is set."""
        return self.messages(input, examples) if self.chat else self.text(input, examples)

    def text(self, input: str, examples: Sequence[Example] = ()) -> str:
        """The prompt as plain text, regardless of `chat`."""
        shots = [f"{self._block(example.input)} {example.target}" for example in examples]
        return self.separator.join([*shots, self._block(input)])

    def messages(self, input: str, examples: Sequence[Example] = ()) -> list[Message]:
        """The prompt as user and assistant turns, regardless of `chat`."""
        turns: list[Message] = []
        for example in examples:
            turns.append({"role": "user", "content": self._block(example.input)})
            turns.append({"role": "assistant", "content": example.target})
        return [*turns, {"role": "user", "content": self._block(input)}]

    def continuation(self, target: str) -> str:
        """The text that follows the rendered prompt if the answer is `target`."""
        return target if self.chat else f" {target}"

    def _block(self, input: str) -> str:
        # An empty input keeps its line: content-free calibration scores the prompt with an empty input.
        lines = [self.instruction] if self.instruction else []
        lines.append(input)
        if self.answer:
            lines.append(self.answer)
        return "\n".join(lines)
