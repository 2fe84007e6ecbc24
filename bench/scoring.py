"""Four-shot likelihood scoring of 200 reviews: which of two label words is likelier after the prompt.

Ours computes the four shots once and each review's own tokens after them. transformers scores whole prompts, eight at a
time, sorted by length, with the logits of the last position only: what a careful user writes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bench.harness import THREADS, Row, Setting, model_folder, reviews, timed

_SHOTS = 4
_BATCH = 8
_WORDS = (" Positive", " Negative")
Scores = list[list[float]]


def measure(setting: Setting) -> list[Row]:
    """Seconds for all reviews, ours against transformers."""
    import torch

    import germinal

    torch.set_num_threads(THREADS)
    lm = germinal.load(str(model_folder()), precision="float32")
    count = 16 if setting.quick else 200
    prompts = _prompts(lm.tokenizer, count)
    words = [lm.tokenizer.encode(word, add_special_tokens=False) for word in _WORDS]
    assert all(len(word) == 1 for word in words)
    ours, peer = _ours(lm, words), _transformers(words)
    ours(prompts[:4]), peer(prompts[:4])
    scores: dict[str, Scores] = {}

    def side(name: str, score: Callable[[list[list[int]]], Scores]) -> float:
        return timed(lambda: scores.__setitem__(name, score(prompts)))

    seconds = setting.in_turn(lambda _: side("ours", ours), lambda _: side("peer", peer), rounds=min(2, setting.rounds))
    rates = [[count / each for each in of_side] for of_side in seconds]
    note = f"largest difference of a log-probability {_difference(scores['ours'], scores['peer']):.0e}"
    return [Row(f"four-shot scoring of {count} reviews", "reviews/s", *rates, "transformers", goal=4.0, note=note)]


def _prompts(tokenizer: Any, count: int) -> list[list[int]]:
    from germinal.text.prompt import Example, Prompt

    words = {"pos": "Positive", "neg": "Negative"}
    rows = reviews(count + 200)
    shots = [Example(text, words[label]) for text, label in rows[count : count + _SHOTS]]
    prompt = Prompt(instruction="Classify this review:", answer="Sentiment:")
    return [tokenizer.encode(prompt.text(text, shots)) for text, _ in rows[:count]]


def _ours(lm: Any, words: list[list[int]]) -> Callable[[list[list[int]]], Scores]:
    from germinal.writing.request import Request

    continuations = tuple(tuple(word) for word in words)

    def score(prompts: list[list[int]]) -> Scores:
        requests = [Request(tuple(ids), None, continuations) for ids in prompts]
        answers = dict(lm.respond(requests))
        return [list(answers[place].scores) for place in range(len(prompts))]

    return score


def _transformers(words: list[list[int]]) -> Callable[[list[list[int]]], Scores]:
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(model_folder(), dtype=torch.float32).eval()
    wanted = [word[0] for word in words]

    def score(prompts: list[list[int]]) -> Scores:
        results: Scores = [[] for _ in prompts]
        order = sorted(range(len(prompts)), key=lambda place: len(prompts[place]))
        for start in range(0, len(order), _BATCH):
            places = order[start : start + _BATCH]
            longest = max(len(prompts[place]) for place in places)
            mask = torch.tensor([[0] * (longest - len(prompts[p])) + [1] * len(prompts[p]) for p in places])
            ids = torch.tensor([[0] * (longest - len(prompts[p])) + prompts[p] for p in places])  # [B, T], padded left
            positions = (mask.cumsum(-1) - 1).clamp(min=0)
            with torch.inference_mode():
                out = model(ids, attention_mask=mask, position_ids=positions, use_cache=False, logits_to_keep=1)
            logps = out.logits[:, -1].log_softmax(-1)[:, wanted]
            for place, row in zip(places, logps.tolist(), strict=True):
                results[place] = row
        return results

    return score


def _difference(ours: Scores, peer: Scores) -> float:
    pairs = zip(ours, peer, strict=True)
    return max(abs(left - right) for our, their in pairs for left, right in zip(our, their, strict=True))
