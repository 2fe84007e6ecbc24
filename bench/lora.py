"""Tuning LoRA (rank 8 on q and v) on batches of 8: forward, backward and AdamW, ours against transformers + PEFT.

Three kinds of batches, the same for both sides: 64 tokens of real text with the loss on each of them, where both have
the same to compute; the same with the loss on the last 8, as when answers are tuned (transformers computes all logits
there too, ours only those that count); and reviews in the project's prompt, sorted by length, as a project tunes them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bench.harness import THREADS, Row, Setting, model_folder, reviews, timed

_BATCH, _LENGTH, _ANSWER = 8, 64, 8
_RANK, _ALPHA, _TARGETS = 8, 16, ("q_proj", "v_proj")
Step = Callable[[Any], float]
"""One update on a batch; its loss."""


def measure(setting: Setting) -> list[Row]:
    """Tokens a second of both sides, for both precisions and all kinds of batches."""
    import torch

    torch.set_num_threads(THREADS)
    count = 2 if setting.quick else 1 + setting.rounds
    batches = {
        "8 x 64, loss on every token": _text(count, labelled=_LENGTH),
        f"8 x 64, loss on the last {_ANSWER}": _text(count, labelled=_ANSWER),
        "8 reviews": _reviews(count),
    }
    rows = []
    for precision in ("float32", "bfloat16"):
        ours, peer = _ours(precision), _peft(precision)
        # Before the first update both adapters change nothing, so that both sides must give the same loss.
        first = next(iter(batches.values()))[0]
        note = f"first losses differ by {abs(ours(first) - peer(first)):.0e}"
        for name, of in batches.items():
            rows.append(_compare(setting, ours, peer, of, f"LoRA tuning, {precision}, {name}", note))
            note = ""
    return rows


def _compare(setting: Setting, ours: Step, peer: Step, batches: list[Any], name: str, note: str) -> Row:
    for step in (ours, peer):
        step(batches[0])  # warms up
    seconds = setting.in_turn(
        lambda number: timed(lambda: ours(batches[1 + number])) / batches[1 + number].num_tokens,
        lambda number: timed(lambda: peer(batches[1 + number])) / batches[1 + number].num_tokens,
    )
    rates = [[1 / each for each in of_side] for of_side in seconds]
    return Row(name, "tok/s", *rates, "transformers + PEFT", goal=1.0, note=note)


def _text(count: int, labelled: int) -> list[Any]:
    """Reviews one after the other, cut into rows; the last `labelled` tokens of each row are learned."""
    from germinal.text.tokenizer import Tokenizer
    from germinal.training.examples import TuningExample, collate

    tokenizer = Tokenizer.from_folder(model_folder())
    needed = count * _BATCH * _LENGTH
    ids: list[int] = []
    for text, _ in reviews(needed // 4):
        ids += [*tokenizer.encode(text), tokenizer.eos_id or 0]
    prompt = max(_LENGTH - labelled, 1)
    rows = [ids[start : start + _LENGTH] for start in range(0, needed, _LENGTH)]
    examples = [TuningExample(tuple(row[:prompt]), tuple(row[prompt:])) for row in rows]
    return [collate(examples, range(first, first + _BATCH), 0, None) for first in range(0, len(examples), _BATCH)]


def _reviews(count: int) -> list[Any]:
    """Batches of an epoch over reviews in the prompt of the example project."""
    from germinal.text.prompt import Prompt
    from germinal.text.tokenizer import Tokenizer
    from germinal.training.examples import TuningData, encode_example

    tokenizer = Tokenizer.from_folder(model_folder())
    prompt = Prompt(instruction="Classify this review:", answer="Sentiment:")
    words = {"pos": " Positive", "neg": " Negative"}
    examples = [encode_example(tokenizer, prompt.text(text), words[label]) for text, label in reviews(400)]
    epoch = TuningData(examples, micro_batch_size=_BATCH, validation_fraction=0, seed=0).epoch(0)
    return [epoch[place] for place in range(count)]


def _ours(precision: str) -> Step:
    import torch

    import germinal
    from germinal.layers.adapters import add_adapter, routed
    from germinal.layers.lora_config import LoRAConfig
    from germinal.training.lora import answer_loss

    network = germinal.load(str(model_folder()), precision=precision).network
    network.requires_grad_(False)
    parts = add_adapter(network, "bench", LoRAConfig(rank=_RANK, alpha=_ALPHA, target_modules=_TARGETS))
    parameters = [parameter for part in parts.values() for parameter in part.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=1e-4, fused=True)

    def step(batch: Any) -> float:
        with routed(network, "bench"):
            loss = answer_loss(network, batch) / batch.weight
            loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return float(loss.detach())

    return step


def _peft(precision: str) -> Step:
    import peft
    import torch
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(model_folder(), dtype=getattr(torch, precision))
    config = peft.LoraConfig(r=_RANK, lora_alpha=_ALPHA, target_modules=list(_TARGETS), task_type="CAUSAL_LM")
    model = peft.get_peft_model(base, config).train()
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-4, fused=True)

    def step(batch: Any) -> float:
        loss = model(
            input_ids=batch.input_ids, attention_mask=batch.attention_mask, labels=batch.labels, use_cache=False
        ).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return float(loss.detach())

    return step


if __name__ == "__main__":
    from bench.harness import table

    for cells in table(measure(Setting(rounds=3))):
        print(" | ".join(cells))
