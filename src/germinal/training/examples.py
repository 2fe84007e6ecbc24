"""From a prompt and its answer to batches: token ids, and labels on the answer alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from germinal.errors import ContextWindowError, DataError
from germinal.objectives.language_modelling import IGNORED, labelled_tokens
from germinal.training.shuffling import ShuffledData


class ContinuationEncoder(Protocol):
    """The part of a tokenizer that is needed here."""

    @property
    def eos_id(self) -> int | None: ...

    def encode_continuation(
        self, context: str, continuation: str, add_special_tokens: bool = True
    ) -> tuple[list[int], list[int]]: ...


@dataclass(frozen=True, slots=True)
class TuningExample:
    """What the model sees and what it should answer, in token ids. Only the answer is learned."""

    prompt_ids: tuple[int, ...]
    answer_ids: tuple[int, ...]

    @property
    def length(self) -> int:
        return len(self.prompt_ids) + len(self.answer_ids)

    @property
    def content(self) -> tuple[object, ...]:
        return self.prompt_ids, self.answer_ids

    @property
    def input_ids(self) -> tuple[int, ...]:
        return self.prompt_ids + self.answer_ids

    @property
    def labels(self) -> tuple[int, ...]:
        """One label for each input id: itself in the answer, -100 in the prompt."""
        return (IGNORED,) * len(self.prompt_ids) + self.answer_ids


def encode_example(
    tokenizer: ContinuationEncoder, prompt: str, answer: str, *, end: bool = True, add_special_tokens: bool = True
) -> TuningExample:
    """Encode a prompt and its answer as one text, cut where the answer starts; `end` teaches the model to stop there.

    The answer brings its own leading space where one belongs. A prompt that a chat template wrote has its special
    tokens already: `add_special_tokens` is False for it.
    """
    prompt_ids, answer_ids = tokenizer.encode_continuation(prompt, answer, add_special_tokens)
    closing = (tokenizer.eos_id,) if end and tokenizer.eos_id is not None else ()
    return TuningExample(tuple(prompt_ids), (*answer_ids, *closing))


@dataclass(frozen=True, slots=True)
class Batch:
    """Examples side by side, padded on the right to the longest.

    Attributes:
        input_ids: [B, T].
        attention_mask: [B, T], 1 where a token is real.
        labels: [B, T], -100 where nothing is to be learned.
        rows: Places of the examples in the list that the run was given.
        num_tokens: Real tokens.
        weight: Labelled tokens, which the loss is summed over.
    """

    input_ids: Tensor
    attention_mask: Tensor
    labels: Tensor
    rows: tuple[int, ...]
    num_tokens: int
    weight: int


def collate(examples: Sequence[TuningExample], rows: Sequence[int], pad_id: int, device: torch.device | None) -> Batch:
    """The batch of the examples at `rows`."""
    chosen = [examples[row] for row in rows]
    width = max(example.length for example in chosen)

    def padded(sequences: Iterator[tuple[int, ...]], value: int) -> Tensor:
        return torch.tensor([[*ids, *[value] * (width - len(ids))] for ids in sequences])

    labels = padded((example.labels for example in chosen), IGNORED)
    input_ids = padded((example.input_ids for example in chosen), pad_id)
    attention_mask = padded(((1,) * example.length for example in chosen), 0)
    return Batch(
        input_ids=input_ids.to(device),
        attention_mask=attention_mask.to(device),
        labels=labels.to(device),
        rows=tuple(rows),
        num_tokens=sum(example.length for example in chosen),
        weight=labelled_tokens(
            labels
        ),  # counted before it moves: reading a number back from a device would wait for it
    )


class TuningData(ShuffledData[Batch]):
    """Prompts and answers in micro-batches; the arguments beside these are those of `ShuffledData`.

    Args:
        pad_id: Fills the end of short rows; never learned from and never seen by a real token.
        device: Where batches are put.
    """

    def __init__(
        self,
        examples: Sequence[TuningExample],
        *,
        micro_batch_size: int,
        validation_fraction: float,
        seed: int,
        pad_id: int = 0,
        device: torch.device | None = None,
    ) -> None:
        super().__init__(
            examples, micro_batch_size=micro_batch_size, validation_fraction=validation_fraction, seed=seed
        )
        self.prompted = examples
        self._pad_id = pad_id
        self._device = device

    def collate(self, rows: Sequence[int]) -> Batch:
        return collate(self.prompted, rows, self._pad_id, self._device)


def check_examples(examples: Sequence[TuningExample], context_window: int, vocab_size: int) -> None:
    """Refuse, before anything is trained, examples that cannot be learned from.

    Raises:
        DataError: there are none, or one has no answer, no prompt, or a token id that the model does not know.
        ContextWindowError: one is longer than the model's context window.
    """
    if not examples:
        raise DataError("there is no example to learn from.", where="training examples")
    for row, example in enumerate(examples):
        where = f"training example {row}"
        if not example.answer_ids or not example.prompt_ids:
            missing = "answer" if example.prompt_ids else "prompt"
            raise DataError(f"has an empty {missing}.", where=where)
        if example.length > context_window:
            raise ContextWindowError(
                f"has {example.length} tokens, {len(example.answer_ids)} of them the answer; the model takes "
                f"{context_window}.",
                where=where,
                hint="Shorten or leave out such examples.",
            )
        if not 0 <= min(example.input_ids) <= max(example.input_ids) < vocab_size:
            raise DataError(f"has a token id outside the model's vocabulary of {vocab_size}.", where=where)
