"""Tuning LoRA (rank 8 on q and v) on 8 x 64 real tokens: forward, backward and AdamW, ours against transformers + PEFT.

Two losses: on every token, where both sides have the same logits to compute, and on the last 8 of each row, as when
answers are tuned: transformers computes all logits there too, ours only those that count.
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
    """Tokens a second of both sides, for both precisions and both losses."""
    import torch

    torch.set_num_threads(THREADS)
    rows = []
    for precision in ("float32", "bfloat16"):
        ours, peer = _ours(precision), _peft(precision)
        for labelled, what in ((_ANSWER, f"loss on the last {_ANSWER}"), (_LENGTH, "loss on every token")):
            rows.append(_compare(setting, ours, peer, labelled, f"LoRA tuning, {precision}, {what}"))
    return rows


def _compare(setting: Setting, ours: Step, peer: Step, labelled: int, name: str) -> Row:
    batches = _batches(1 + (1 if setting.quick else setting.rounds), labelled)
    losses = [(ours(batches[0]), peer(batches[0]))]  # warms up

    def side(step: Step, place: int, number: int) -> float:
        found = [0.0]
        seconds = timed(lambda: found.__setitem__(0, step(batches[1 + number])))
        while len(losses) < 2 + number:
            losses.append((0.0, 0.0))
        losses[1 + number] = (found[0], losses[1 + number][1]) if place == 0 else (losses[1 + number][0], found[0])
        return seconds

    seconds = setting.in_turn(lambda number: side(ours, 0, number), lambda number: side(peer, 1, number))
    rates = [[_BATCH * _LENGTH / each for each in of_side] for of_side in seconds]
    note = f"largest difference of a loss {max(abs(one - two) for one, two in losses):.0e}"
    return Row(name, "tok/s", *rates, "transformers + PEFT", goal=1.0, note=note)


def _batches(count: int, labelled: int) -> list[Any]:
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


def _ours(precision: str) -> Step:
    import torch

    import germinal
    from germinal.layers.linear import LoRAConfig, adapter_routing, add_adapter
    from germinal.training.lora import answer_loss

    network = germinal.load(str(model_folder()), precision=precision).network
    network.requires_grad_(False)
    parts = add_adapter(network, "bench", LoRAConfig(rank=_RANK, alpha=_ALPHA, target_modules=_TARGETS))
    parameters = [parameter for part in parts.values() for parameter in part.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=1e-4, fused=True)

    def step(batch: Any) -> float:
        with adapter_routing(network).using("bench"):
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
