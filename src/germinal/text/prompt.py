"""The prompt of a use case: an instruction, worked examples, the input, and the words with which the answer starts.

Plain, zero-shot, the text is three lines:

    Classify this review:
    I loved this movie!
    Sentiment:

and a worked example is the same three lines with its target after the last, one space between. Examples come first,
blocks are joined by `separator`. In chat mode each example is a user turn (the same three lines) answered by an
assistant turn that holds the bare target, and the input is the last user turn; a system message is never made up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from germinal.errors import SettingError
from germinal.text.chat_template import Message


@dataclass(frozen=True, slots=True)
class Example:
    """One worked example: an input and the answer that is right for it."""

    input: str
    target: str


@dataclass(frozen=True, slots=True)
class Prompt:
    """How an input becomes what a language model reads. A field's help is what the command line says of its option.

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
                "the answer cue ends in white space, which would be tokenized apart from the word that follows.",
                where="answer",
                hint=f"Write {self.answer.rstrip()!r}; the space before the answer is added.",
            )

    def render(self, input: str, examples: Sequence[Example] = ()) -> str | list[Message]:
        """Plain text, or the messages of a chat when `chat` is set."""
        return self.messages(input, examples) if self.chat else self.text(input, examples)

    def text(self, input: str, examples: Sequence[Example] = ()) -> str:
        """The prompt as plain text, whatever `chat` says."""
        shots = [f"{self._block(example.input)} {example.target}" for example in examples]
        return self.separator.join([*shots, self._block(input)])

    def messages(self, input: str, examples: Sequence[Example] = ()) -> list[Message]:
        """The prompt as user and assistant turns, whatever `chat` says."""
        turns: list[Message] = []
        for example in examples:
            turns.append({"role": "user", "content": self._block(example.input)})
            turns.append({"role": "assistant", "content": example.target})
        return [*turns, {"role": "user", "content": self._block(input)}]

    def continuation(self, target: str) -> str:
        """The text with which the rendered prompt goes on when the answer is `target`."""
        return target if self.chat else f" {target}"

    def _block(self, input: str) -> str:
        # An empty input keeps its line: content-free calibration asks with nothing where the input would be.
        lines = [self.instruction] if self.instruction else []
        lines.append(input)
        if self.answer:
            lines.append(self.answer)
        return "\n".join(lines)
