"""From prompts and answers to batches: the loss mask token by token, little padding, an order by seed."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from germinal.errors import ContextWindowError, DataError
from germinal.training.examples import TuningData, TuningExample, check_examples, collate, encode_example


class Letters:
    """One token a character; a space joins the character that follows it, as in byte-level vocabularies."""

    eos_id: int | None = 0
    start: tuple[int, ...] = ()

    def encode_continuation(
        self, context: str, continuation: str, add_special_tokens: bool = True, *, apart: bool = False
    ) -> tuple[list[int], list[int]]:
        start = self.start if add_special_tokens else ()
        return [*start, *map(ord, context)], [ord(letter) for letter in continuation]


def many(count: int, longest: int = 40) -> list[TuningExample]:
    return [TuningExample(tuple(range(1, 2 + row * 7 % longest)), (row, 1)) for row in range(count)]


def test_the_answer_and_its_end_are_labelled_and_nothing_else() -> None:
    example = encode_example(Letters(), "ab:", " c")
    assert example.input_ids == (97, 98, 58, 32, 99, 0)
    assert example.labels == (-100, -100, -100, 32, 99, 0)
    assert encode_example(Letters(), "ab:", " c", end=False).answer_ids == (32, 99)


def test_a_prompt_that_a_template_wrote_gets_no_second_start() -> None:
    letters = Letters()
    letters.start = (1,)
    assert encode_example(letters, "ab", "c").prompt_ids == (1, 97, 98)
    assert encode_example(letters, "ab", "c", add_special_tokens=False).prompt_ids == (97, 98)


def test_a_tokenizer_without_an_end_adds_none() -> None:
    endless = Letters()
    endless.eos_id = None
    assert encode_example(endless, "ab:", " c").answer_ids == (32, 99)


def test_collating_pads_on_the_right_and_labels_no_padding() -> None:
    examples = [TuningExample((5, 6), (7,)), TuningExample((8, 9, 10), (11, 12))]
    batch = collate(examples, [1, 0], pad_id=99, device=None)
    assert batch.input_ids.tolist() == [[8, 9, 10, 11, 12], [5, 6, 7, 99, 99]]
    assert batch.attention_mask.tolist() == [[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]
    assert batch.labels.tolist() == [[-100, -100, -100, 11, 12], [-100, -100, 7, -100, -100]]
    assert (batch.rows, batch.num_tokens, batch.weight) == ((1, 0), 8, 3)


@given(st.integers(1, 200), st.integers(1, 9), st.sampled_from([0.0, 0.1, 0.5]), st.integers(0, 3), st.integers(0, 2))
@settings(max_examples=50, deadline=None)
def test_an_epoch_holds_every_training_example_once(
    count: int, size: int, fraction: float, seed: int, epoch: int
) -> None:
    data = TuningData(many(count), micro_batch_size=size, validation_fraction=fraction, seed=seed)
    batches = data.epoch(epoch)
    trained = Counter(row for place in range(len(batches)) for row in batches[place].rows)
    held_out = Counter(row for place in range(len(data.validation())) for row in data.validation()[place].rows)
    assert len(batches) == data.batches_per_epoch
    assert trained + held_out == Counter(range(count))


def test_order_follows_the_seed_and_the_epoch() -> None:
    def order(seed: int, epoch: int) -> list[tuple[int, ...]]:
        batches = TuningData(many(100), micro_batch_size=8, validation_fraction=0, seed=seed).epoch(epoch)
        return [batches[place].rows for place in range(len(batches))]

    assert order(0, 0) == order(0, 0)
    assert order(0, 0) != order(0, 1)
    assert order(0, 0) != order(1, 0)


def test_batches_are_near_in_length() -> None:
    data = TuningData(many(400), micro_batch_size=8, validation_fraction=0, seed=0)
    batches = data.epoch(0)
    padded = sum(batches[place].input_ids.numel() for place in range(len(batches)))
    assert padded < 1.05 * sum(example.length for example in many(400))
    shuffled = [batches[place].input_ids.shape[1] for place in range(len(batches))]
    assert shuffled != sorted(shuffled)


def test_validation_part_depends_on_content_not_on_order() -> None:
    examples = many(60)
    held_out = {
        examples[row]
        for row in TuningData(examples, micro_batch_size=4, validation_fraction=0.2, seed=0).validation_rows
    }
    backwards = examples[::-1]
    again = {
        backwards[row]
        for row in TuningData(backwards, micro_batch_size=4, validation_fraction=0.2, seed=0).validation_rows
    }
    other = {
        examples[row]
        for row in TuningData(examples, micro_batch_size=4, validation_fraction=0.2, seed=1).validation_rows
    }
    assert len(held_out) == 12
    assert again == held_out != other
    one_more = [*examples, TuningExample((1, 2, 3), (99, 1))]
    grown = {
        one_more[row]
        for row in TuningData(one_more, micro_batch_size=4, validation_fraction=0.2, seed=0).validation_rows
    }
    assert len(held_out ^ grown) <= 2


def test_equal_examples_stand_on_one_side() -> None:
    examples = many(20) * 3
    data = TuningData(examples, micro_batch_size=4, validation_fraction=0.3, seed=0)
    assert not {examples[row] for row in data.validation_rows} & {examples[row] for row in data.training_rows}


@pytest.mark.parametrize("count", [1, 2, 3])
def test_few_examples_leave_something_to_learn_from(count: int) -> None:
    data = TuningData(many(count), micro_batch_size=8, validation_fraction=0.1, seed=0)
    assert len(data.training_rows) == max(count - 1, 1)
    assert len(TuningData(many(1) * 5, micro_batch_size=8, validation_fraction=0.1, seed=0).training_rows) == 5


def test_batches_stand_on_the_device_asked_for() -> None:
    data = TuningData(many(3), micro_batch_size=2, validation_fraction=0, seed=0, device=torch.device("meta"))
    assert data.collate([0, 1]).input_ids.device.type == "meta"


@pytest.mark.parametrize(
    ("examples", "error", "message"),
    [
        ([], DataError, "no example"),
        ([TuningExample((1,), (2,)), TuningExample((1,), ())], DataError, "training example 1: has an empty answer"),
        ([TuningExample((), (2,))], DataError, "empty prompt"),
        ([TuningExample((1, 2), (50,))], DataError, "vocabulary of 50"),
        (
            [TuningExample((1,) * 9, (2, 3))],
            ContextWindowError,
            "has 11 tokens, 2 of them the answer; the model takes 10",
        ),
    ],
)
def test_examples_that_cannot_be_learned_from_are_named(
    examples: list[TuningExample], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        check_examples(examples, context_window=10, vocab_size=50)
