"""The real model against transformers on the same weights: greedy text, token for token, and likelihoods."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import torch

import germinal
from germinal.language_model import LanguageModel

REVIEWS = Path(__file__).parents[2] / "examples" / "reviews" / "reviews.csv"
PROMPTS = [
    "The capital of France is",
    "Once upon a time, there was a little",
    "def fibonacci(n):",
    "The three primary colours are",
    "Q: What is 12 + 30?\nA:",
    "Translate to French: Good morning!",
    "  Leading spaces and   runs of them",
    "1, 2, 3, 5, 8, 13,",
]


@pytest.fixture(scope="module")
def lm(smollm2_folder: Path) -> LanguageModel:
    return germinal.load(smollm2_folder)


@pytest.fixture(scope="module")
def peer(smollm2_folder: Path) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(smollm2_folder, dtype=torch.float32).eval()
    return model, AutoTokenizer.from_pretrained(smollm2_folder)


def reviews(count: int) -> list[str]:
    with REVIEWS.open(encoding="utf-8") as file:
        return [row["text"] for row, _ in zip(csv.DictReader(file), range(count), strict=False)]


def test_greedy_text_is_transformers(lm: LanguageModel, peer: tuple[Any, Any]) -> None:
    """20 prompts at once, sharing steps and prefixes, against one at a time."""
    model, tokenizer = peer
    plain = [*PROMPTS, *(f"Classify this review:\n{text}\nSentiment:" for text in reviews(8))]
    chats = [[{"role": "user", "content": text}] for text in PROMPTS[:4]]
    completions = lm.generate([*plain, *chats], max_new_tokens=12)
    rendered = [tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True) for chat in chats]
    for prompt, completion in zip([*plain, *rendered], completions, strict=True):
        inputs = tokenizer(prompt, return_tensors="pt", add_special_tokens=False)
        output = model.generate(**inputs, max_new_tokens=12, do_sample=False)[0, inputs.input_ids.shape[1] :].tolist()
        expected = [token for token in output if token != tokenizer.eos_token_id]
        assert list(completion.token_ids) == expected, prompt
        assert completion.text == tokenizer.decode(expected, skip_special_tokens=True), prompt


def test_likelihoods_are_transformers(lm: LanguageModel, peer: tuple[Any, Any]) -> None:
    model, tokenizer = peer
    prompt = "Classify this review:\nI loved this movie!\nSentiment:"
    continuations = [" Positive", " Negative", " I would say that it is positive"]
    context = tokenizer(prompt).input_ids
    for continuation, score in zip(continuations, lm.score(prompt, continuations), strict=True):
        ids = tokenizer(prompt + continuation).input_ids
        with torch.no_grad():
            logprobs = model(torch.tensor([ids])).logits[0].log_softmax(-1)
        expected = sum(logprobs[place - 1, ids[place]].item() for place in range(len(context), len(ids)))
        assert score == pytest.approx(expected, abs=1e-3)


def test_bfloat16_answers_much_the_same(lm: LanguageModel, smollm2_folder: Path) -> None:
    rounded = germinal.load(smollm2_folder, precision="bfloat16")
    assert rounded.precision == "bfloat16 (from float32)"
    assert " Paris" in rounded.generate(PROMPTS[0], max_new_tokens=3).text
    labels = [" Positive", " Negative"]
    prompt = "Classify this review:\nI loved this movie!\nSentiment:"
    assert rounded.score(prompt, labels) == pytest.approx(lm.score(prompt, labels), abs=0.2)
