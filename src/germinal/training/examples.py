"""From prompts and answers to batches: token ids, with labels on the answers only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from germinal.errors import ContextWindowError, DataError
from germinal.objectives.language_modelling import IGNORED, labelled_tokens
from germinal.training.shuffling import ShuffledData, padded

if TYPE_CHECKING:
    from germinal.predictors.language_model_predictor import LanguageModelPredictor


class ContinuationEncoder(Protocol):
    """The part of a tokenizer that is needed here."""

    @property
    def eos_id(self) -> int | None: ...

    def encode_continuation(
        self, context: str, continuation: str, add_special_tokens: bool = True, *, apart: bool = False
    ) -> tuple[list[int], list[int]]: ...


@dataclass(frozen=True, slots=True)
class TuningExample:
    """A prompt and the answer to learn, in token ids."""

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
        """The label of each input id: the id itself in the answer, -100 in the prompt."""
        return (IGNORED,) * len(self.prompt_ids) + self.answer_ids


def encode_example(
    tokenizer: ContinuationEncoder,
    prompt: str,
    answer: str,
    *,
    end: bool = True,
    add_special_tokens: bool = True,
    apart: bool = False,
) -> TuningExample:
    """Encode a prompt and its answer as one text, and split its ids where the answer starts.

    Args:
        answer: Including the space before it, if there is to be one.
        end: Append the end-of-sequence token, so that the model learns to stop.
        add_special_tokens: False for a prompt rendered by a chat template, which contains them already.
        apart: Encode the two separately, for an encoder-decoder.
    """
    prompt_ids, answer_ids = tokenizer.encode_continuation(prompt, answer, add_special_tokens, apart=apart)
    closing = (tokenizer.eos_id,) if end and tokenizer.eos_id is not None else ()
    return TuningExample(tuple(prompt_ids), (*answer_ids, *closing))


def prompted_examples(predictor: LanguageModelPredictor, pairs: Sequence[tuple[str, str]]) -> list[TuningExample]:
    """Each input in the predictor's prompt, exactly as the model will be asked, and its answer, where it is to stop.

    Args:
        predictor: A model with a prompt.
        pairs: Inputs and targets: labels, whose words are learned, or texts where the predictor has no labels.

    Raises:
        ContextWindowError: a prompt does not fit, and the predictor's policy does not make it.
        SettingError, TemplateError: as of `LanguageModelPredictor.taught`.
    """
    prompts = predictor.prompts_for([input for input, _ in pairs])
    words = predictor.labels.words if predictor.labels else {}
    return [
        TuningExample(prompt.ids, predictor.taught(prompt, words.get(target, target)))
        for prompt, (_, target) in zip(prompts, pairs, strict=True)
    ]


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch of examples, padded on the right to the longest.

    Attributes:
        input_ids: [B, T]; for an encoder-decoder the prompts, [B, S].
        attention_mask: The same shape, 1 where a token is real.
        labels: [B, T], -100 where nothing is learned. They are aligned with the input ids, and each is predicted from
            the position before; for an encoder-decoder, with the decoder's ids, and predicted at the same position.
        rows: Indices of the examples in the run's list.
        num_tokens: The number of real tokens.
        weight: The number of labelled tokens, which the loss is summed over.
        decoder_input_ids: [B, T], for an encoder-decoder: `answer_start`, then each answer without its last token.
    """

    input_ids: Tensor
    attention_mask: Tensor
    labels: Tensor
    rows: tuple[int, ...]
    num_tokens: int
    weight: int
    decoder_input_ids: Tensor | None = None


def collate(
    examples: Sequence[TuningExample],
    rows: Sequence[int],
    pad_id: int,
    device: torch.device | None,
    answer_start: Sequence[int] | None = None,
) -> Batch:
    """The batch of the examples at `rows`.

    Args:
        answer_start: The ids that the decoder of an encoder-decoder reads before an answer, which are not learned; None
            appends each answer to its prompt.
    """
    chosen = [examples[row] for row in rows]
    read: Tensor | None = None
    # Labels are counted on the CPU: to read a number back from a device would wait for it.
    if answer_start is None:
        ids = [example.input_ids for example in chosen]
        targets = padded([example.labels for example in chosen], IGNORED)
        weight = labelled_tokens(targets)
    else:
        start, unlearned = tuple(answer_start), (IGNORED,) * (len(answer_start) - 1)
        ids = [example.prompt_ids for example in chosen]
        targets = padded([(*unlearned, *example.answer_ids) for example in chosen], IGNORED)
        read = padded([(*start, *example.answer_ids[:-1]) for example in chosen], pad_id).to(device)
        weight = sum(len(example.answer_ids) for example in chosen)
    return Batch(
        input_ids=padded(ids, pad_id).to(device),
        attention_mask=padded([(1,) * len(each) for each in ids], 0).to(device),
        labels=targets.to(device),
        rows=tuple(rows),
        num_tokens=sum(example.length for example in chosen),
        weight=weight,
        decoder_input_ids=read,
    )


class TuningData(ShuffledData[Batch]):
    """Prompts and answers in micro-batches. The other arguments are those of `ShuffledData`.

    Args:
        pad_id: The padding token; it is neither learned nor seen by real tokens.
        device: The device of the batches.
        answer_start: As in `collate`.
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
        answer_start: Sequence[int] | None = None,
    ) -> None:
        super().__init__(
            examples, micro_batch_size=micro_batch_size, validation_fraction=validation_fraction, seed=seed
        )
        self.prompted = examples
        self._pad_id = pad_id
        self._device = device
        self._answer_start = answer_start

    def collate(self, rows: Sequence[int]) -> Batch:
        return collate(self.prompted, rows, self._pad_id, self._device, self._answer_start)


def check_examples(
    examples: Sequence[TuningExample],
    context_window: int,
    vocab_size: int,
    answer_start: Sequence[int] | None = None,
) -> None:
    """Refuse examples that cannot be learned from, before training.

    Args:
        answer_start: As in `collate`; if given, prompts and answers each have a context window of their own.

    Raises:
        DataError: there are no examples, or one has no answer, no prompt, or a token id outside the vocabulary.
        ContextWindowError: an example is longer than the context window.
    """
    if not examples:
        raise DataError("there are no examples.", where="training examples")
    for row, example in enumerate(examples):
        where = f"training example {row}"
        if not example.answer_ids or not example.prompt_ids:
            missing = "answer" if example.prompt_ids else "prompt"
            raise DataError(f"has an empty {missing}.", where=where)
        if too_long := _too_long(example, context_window, answer_start):
            raise ContextWindowError(too_long, where=where, hint="Shorten or leave out such examples.")
        if not 0 <= min(example.input_ids) <= max(example.input_ids) < vocab_size:
            raise DataError(f"has a token id outside the model's vocabulary of {vocab_size}.", where=where)


def _too_long(example: TuningExample, context_window: int, answer_start: Sequence[int] | None) -> str | None:
    """Which part of an example does not fit, or None."""
    prompt, answer = len(example.prompt_ids), len(example.answer_ids)
    if answer_start is None:
        if prompt + answer <= context_window:
            return None
        return f"has {prompt + answer} tokens, {answer} of them the answer; the model takes {context_window}."
    if prompt > context_window:
        return f"has a prompt of {prompt} tokens; the encoder takes {context_window}."
    longest = context_window - len(answer_start) + 1  # the last token of an answer is not read
    return f"has an answer of {answer} tokens; the decoder takes {longest}." if answer > longest else None
