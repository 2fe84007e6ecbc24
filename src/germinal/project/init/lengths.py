"""How long right answers and prompts are in a model's own tokens, so that a first project cuts neither.

Only tokenizers and configs that are on this machine are read; nothing is fetched.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from germinal.checkpoints import config_at, sources, tokenizer_at
from germinal.data.dataset import Row
from germinal.errors import GerminalError
from germinal.project.init.words import Words
from germinal.text.prompt import Prompt

_STEP = 16
_LABEL_TOKENS = 16  # room for a label, which is seldom longer


@dataclass(frozen=True, slots=True)
class TooLong:
    """Prompts that a model cannot read whole, with room for an answer.

    Attributes:
        prompts: How many of `rows` are too long, with `shots` worked examples of mean length.
        longest: Tokens of the longest of them, without its answer.
        window: Tokens that the model reads and writes.
    """

    model: str
    shots: int
    prompts: int
    rows: int
    longest: int
    window: int


@dataclass(frozen=True, slots=True)
class Lengths:
    """Lengths in tokens.

    Attributes:
        max_new_tokens: Room for the longest right text of the training rows and the token that ends it.
        longest: Tokens of that text; by the bound where no tokenizer counted.
        counted: The models whose tokenizers counted.
        uncounted: The models whose tokenizers are not on this machine. For these, a text is taken to have a token for
            every byte, which is the most that it can have.
        too_long: Prompts that do not fit.
    """

    max_new_tokens: int
    longest: int
    counted: tuple[str, ...]
    uncounted: tuple[str, ...]
    too_long: tuple[TooLong, ...]


def lengths_of(
    models: Sequence[str], words: Words, train: Sequence[Row], shots: Sequence[int], *, closed: bool
) -> Lengths:
    """Count the training rows with each model's tokenizer.

    Args:
        models: References, of which relative paths start at the working folder.
        shots: The numbers of worked examples that the project tries.
        closed: Whether right answers are labels.
    """
    counted: list[str] = []
    longest, too_long = 0, list[TooLong]()
    for model in models:
        try:
            path = sources.fetch(model, offline=True)
            tokenizer = tokenizer_at(path, model)
        except GerminalError:
            continue
        counted.append(model)
        targets = [len(ids) for ids in tokenizer.encode_batch([f" {row.target}" for row in train], False)]
        longest = max(longest, *targets)
        answer = _LABEL_TOKENS if closed else _rounded(max(targets))
        prompt = Prompt(words.instruction, words.answer)
        prompts = [len(ids) for ids in tokenizer.encode_batch([prompt.text(row.input) for row in train])]
        example = fmean(prompts) + fmean(targets)
        too_long += _too_long(model, path, prompts, example, answer, shots)
    uncounted = tuple(model for model in models if model not in counted)
    if uncounted or not models:
        longest = max(longest, *(len(row.target.encode()) for row in train))
    return Lengths(_rounded(longest), longest, tuple(counted), uncounted, tuple(too_long))


def _rounded(longest: int) -> int:
    """Room for a text and the token that ends it, in whole steps."""
    return -(-(longest + 1) // _STEP) * _STEP


def _too_long(
    model: str, path: Path, prompts: Sequence[int], example: float, answer: int, shots: Sequence[int]
) -> list[TooLong]:
    """The fewest worked examples with which prompts do not fit, if there are any."""
    try:
        config = config_at(path)
    except GerminalError:
        return []
    window = config.max_position_embeddings
    room = window if config.stacks == "encoder-decoder" else window - answer
    for number in sorted(shots):
        whole = [round(length + number * example) for length in prompts]
        longer = [length for length in whole if length > room]
        if longer:
            return [TooLong(model, number, len(longer), len(prompts), max(longer), window)]
    return []
