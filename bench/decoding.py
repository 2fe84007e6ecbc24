"""Greedy decoding in float32: 127 tokens after a prompt of 128, one sequence and eight at once.

The rate is that of decoding alone: the time for 128 new tokens less the time for one, which holds the prompt's work.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

from bench.harness import MODEL, THREADS, Row, Setting, model_folder, reviews, timed

_PROMPT_TOKENS = 128
_NEW_TOKENS = 127
Prompts = list[list[int]]


def measure(setting: Setting) -> list[Row]:
    """Rows for batch 1 and 8 against transformers, and for llama.cpp where it is installed."""
    import torch

    torch.set_num_threads(THREADS)
    ours, tokenizer = _ours()
    peer = _transformers()
    rows = []
    for batch in (1, 8):
        prompts = _prompts(tokenizer, batch)
        same = ours(prompts(0), 9) == peer(prompts(0), 9)  # warms up both
        new = 17 if setting.quick else _NEW_TOKENS + 1
        rates = setting.in_turn(
            lambda number, prompts=prompts, new=new: _rate(ours, prompts, number, new),
            lambda number, prompts=prompts, new=new: _rate(peer, prompts, number, new),
        )
        note = "same tokens" if same else "DIFFERENT TOKENS"
        rows.append(Row(f"greedy decoding, batch {batch}", "tok/s", *rates, "transformers", goal=1.0, note=note))
    if find_spec("llama_cpp"):
        rows.append(_llama_cpp(setting, ours, _prompts(tokenizer, 1)))
    return rows


def _rate(
    generate: Callable[[Prompts, int], object], prompts: Callable[[int], Prompts], number: int, new: int
) -> float:
    """Of one round. Its prompts differ from one another: ours would not read again what it has in its cache."""
    first, second = prompts(1 + 2 * number), prompts(2 + 2 * number)
    one = timed(lambda: generate(first, 1))
    all_of_them = timed(lambda: generate(second, new))
    return len(first) * (new - 1) / (all_of_them - one)


def _prompts(tokenizer: Any, batch: int) -> Callable[[int], Prompts]:
    """Prompts of real text, others in each round, so that nobody's cache has seen them."""
    ids = tokenizer.encode("\n".join(text for text, _ in reviews(1500)))

    def of_round(number: int) -> Prompts:
        starts = [((number * batch + place) * 131) % (len(ids) - _PROMPT_TOKENS) for place in range(batch)]
        return [ids[start : start + _PROMPT_TOKENS] for start in starts]

    return of_round


def _ours() -> tuple[Callable[[Prompts, int], list[list[int]]], Any]:
    import germinal
    from germinal.writing.request import Request

    lm = germinal.load(str(model_folder()), precision="float32")

    def generate(prompts: Prompts, new: int) -> list[list[int]]:
        settings = germinal.GenerationConfig(max_new_tokens=new, eos_ids=())
        answers = dict(lm.respond([Request(tuple(ids), settings) for ids in prompts]))
        return [list(answers[place].completion.token_ids) for place in range(len(prompts))]

    return generate, lm.tokenizer


def _transformers() -> Callable[[Prompts, int], list[list[int]]]:
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(model_folder(), dtype=torch.float32).eval()
    model.generation_config.eos_token_id = None
    model.generation_config.pad_token_id = 0

    def generate(prompts: Prompts, new: int) -> list[list[int]]:
        ids = torch.tensor(prompts)  # [B, T]
        with torch.inference_mode():
            out = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=new, do_sample=False)
        return out[:, _PROMPT_TOKENS:].tolist()

    return generate


def _llama_cpp(setting: Setting, ours: Callable[[Prompts, int], object], prompts: Callable[[int], Prompts]) -> Row:
    """For the record: llama.cpp on the shipped Q4_1 file, a tenth of the bytes. Without a goal yet."""
    from llama_cpp import Llama

    from germinal.checkpoints.sources import fetch

    model = Llama(str(fetch(MODEL)), n_threads=THREADS, n_threads_batch=THREADS, n_ctx=512, verbose=False)

    def generate(prompts: Prompts, new: int) -> None:
        model.reset()
        stream = model.generate(prompts[0], temp=0.0, repeat_penalty=1.0)
        for _ in range(new):
            next(stream)

    generate(prompts(0), 9)
    new = 17 if setting.quick else _NEW_TOKENS + 1
    rates = setting.in_turn(
        lambda number: _rate(ours, prompts, number, new), lambda number: _rate(generate, prompts, number, new)
    )
    return Row("greedy decoding, batch 1, ours float32", "tok/s", *rates, "llama.cpp Q4_1")
