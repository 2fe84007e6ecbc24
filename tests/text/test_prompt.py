"""The exact text of prompts, and a stable, balanced choice of examples."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from germinal.errors import DataError, SettingError
from germinal.text.examples import choose_examples
from germinal.text.prompt import Example, Prompt

REVIEW = Prompt(instruction="Classify this review:", answer="Sentiment:")
SHOTS = [Example("Dull.", "Negative"), Example("A joy!", "Positive")]


def test_zero_shot_is_three_lines() -> None:
    assert REVIEW.render("I loved it!") == "Classify this review:\nI loved it!\nSentiment:"


def test_a_shot_is_the_same_block_with_its_target() -> None:
    assert REVIEW.render("So-so.", SHOTS) == (
        "Classify this review:\nDull.\nSentiment: Negative\n\n"
        "Classify this review:\nA joy!\nSentiment: Positive\n\n"
        "Classify this review:\nSo-so.\nSentiment:"
    )


def test_an_absent_part_leaves_no_line_but_an_empty_input_keeps_its_own() -> None:
    assert Prompt().render("Hello") == "Hello"
    assert Prompt(answer="A:").render("Q: 2+2") == "Q: 2+2\nA:"
    assert REVIEW.render("") == "Classify this review:\n\nSentiment:"


def test_chat_turns_hold_the_blocks_and_the_bare_targets() -> None:
    chat = Prompt("Classify this review:", "Sentiment:", chat=True)
    assert chat.render("So-so.", SHOTS[:1]) == [
        {"role": "user", "content": "Classify this review:\nDull.\nSentiment:"},
        {"role": "assistant", "content": "Negative"},
        {"role": "user", "content": "Classify this review:\nSo-so.\nSentiment:"},
    ]
    assert chat.continuation("Positive") == "Positive"
    assert REVIEW.continuation("Positive") == " Positive"


def test_an_answer_cue_that_ends_in_a_space_is_refused() -> None:
    with pytest.raises(SettingError, match="whitespace"):
        Prompt(answer="Sentiment: ")


def rows(count: int) -> list[tuple[str, str, str]]:
    return [(f"key{i}", f"text {i}", ("pos", "neg", "mixed")[i % 3]) for i in range(count)]


@given(shots=st.integers(0, 12), seed=st.integers(0, 5), shuffle=st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_examples_are_balanced_and_do_not_depend_on_file_order(shots: int, seed: int, shuffle: random.Random) -> None:
    candidates = rows(60)
    labels = ["pos", "neg", "mixed"]
    chosen = choose_examples(candidates, shots, seed, labels)
    shuffle.shuffle(candidates)
    assert chosen == choose_examples(candidates, shots, seed, labels)
    counts = Counter(example.target for example in chosen)
    assert len(chosen) == shots == len(set(chosen))
    assert max(counts[label] for label in labels) - min(counts[label] for label in labels) <= 1


def test_another_seed_gives_other_examples_and_another_order_of_labels() -> None:
    choices = [choose_examples(rows(300), 6, seed, ["pos", "neg", "mixed"]) for seed in range(8)]
    assert len({frozenset(choice) for choice in choices}) == 8
    assert len({tuple(example.target for example in choice) for choice in choices}) > 1


def test_one_row_more_changes_the_choice_only_when_it_is_chosen_itself() -> None:
    before = set(choose_examples(rows(99), 4, 0, ["pos", "neg", "mixed"]))
    changed = 0
    for number in range(200):
        new = ("new", f"row {number}", "pos")
        after = set(choose_examples([*rows(99), (f"new{number}", *new[1:])], 4, 0, ["pos", "neg", "mixed"]))
        assert after == before or Example(new[1], "pos") in after
        changed += after != before
    assert changed < 30


def test_too_few_candidates_are_an_error_and_scarce_labels_are_made_up_for() -> None:
    with pytest.raises(DataError, match="4 examples"):
        choose_examples(rows(3), 4, 0, ["pos", "neg", "mixed"])
    scarce = [("a", "x", "pos"), *[(f"n{i}", f"y{i}", "neg") for i in range(5)]]
    counts = Counter(example.target for example in choose_examples(scarce, 4, 0, ["pos", "neg"]))
    assert counts == {"pos": 1, "neg": 3}


def test_free_text_targets_are_ranked_together() -> None:
    candidates = [(str(i), f"in {i}", f"out {i}") for i in range(20)]
    assert len(set(choose_examples(candidates, 5, 3))) == 5
