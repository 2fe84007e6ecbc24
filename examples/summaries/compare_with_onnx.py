"""How near the folder that make_model.py writes is to the ONNX graphs that it was made from, on texts of summaries.csv.

The encoders are compared apart; the decoders apart, both given the ONNX encoder's output; and greedy answers together.
Once with our weights in float, and once with what goes into every product rounded to 8 bits as onnxruntime rounds it
(DynamicQuantizeLinear of the ONNX standard). Where no value stands so near the middle between two steps that the last
bits of a sum decide, the second gives the same numbers; where one does, a whole step's difference runs through all that
follows, as it does in ours alone when its embeddings change by a millionth.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import germinal
from germinal.layers.attention import PaddedView

PREFIX = "summarize agent step: "
TEXTS = Path(__file__).with_name("summaries.csv")
COUNT = 50
LONGEST_INPUT, LONGEST_ANSWER = 48, 24
"""Tokens; the package's tokenizer cuts what it reads to so many."""
EQUAL = 0.01
"""Differences below it count as none: float sums in another order."""


@dataclass(frozen=True)
class Run:
    """What the graphs made of one input: the encoder's output [1, S, D], the logits [T, V] of its answer's places."""

    ids: list[int]
    state: Tensor
    logits: Tensor
    answer: list[int]


class OnnxRun:
    """The two graphs of the package under onnxruntime."""

    def __init__(self, folder: Path) -> None:
        import onnxruntime

        self._encoder, self._decoder = (
            onnxruntime.InferenceSession(folder / f"{stack}.onnx", providers=["CPUExecutionProvider"])
            for stack in ("encoder", "decoder")
        )

    def encode(self, ids: list[int]) -> Tensor:
        """Token ids [S] -> [1, S, D]."""
        (state,) = self._encoder.run(None, {"input_ids": _row(ids), "attention_mask": _row([1] * len(ids))})
        return torch.from_numpy(state)

    def logits(self, state: Tensor, ids: list[int]) -> Tensor:
        """The encoder's output [1, S, D] and what the decoder has read [T] -> [T, V]."""
        given = {"encoder_hidden_states": state.numpy(), "encoder_attention_mask": _row([1] * state.shape[1])}
        (logits,) = self._decoder.run(None, {"input_ids": _row(ids), **given})
        return torch.from_numpy(logits)[0]

    def run(self, ids: list[int], start: int, end: int) -> Run:
        """A greedy answer and all on the way; the graph has no cache, so that each token reads all before it again."""
        state, written = self.encode(ids), [start]
        while True:
            logits = self.logits(state, written)
            best = int(logits[-1].argmax())
            if best == end or len(written) > LONGEST_ANSWER:
                return Run(ids, state, logits, written[1:])
            written.append(best)


@torch.inference_mode()
def compare(source: Path, folder: Path) -> None:
    """Print how far the two are apart."""
    try:
        theirs = OnnxRun(source)
    except ImportError:
        print("Not compared with its ONNX run: pip install onnxruntime")
        return
    ours = germinal.load(folder, device="cpu")
    with TEXTS.open(encoding="utf-8", newline="") as file:
        texts = [PREFIX + row["text"] for row, _ in zip(csv.DictReader(file), range(COUNT), strict=False)]
    inputs = [[*ours.tokenizer.encode(text, add_special_tokens=False)[: LONGEST_INPUT - 1], 1] for text in texts]
    start, end = ours.decoder_start_id, ours.tokenizer.eos_id
    assert end is not None
    runs = [theirs.run(ids, start, end) for ids in inputs]
    print(f"Compared with its ONNX run on {len(inputs)} inputs of at most {LONGEST_INPUT} tokens:", flush=True)
    _report("float weights", ours, runs)
    with rounded_inputs(ours.network):
        _report("what goes into products rounded as in ONNX", ours, runs)


def _report(name: str, ours: Any, runs: list[Run]) -> None:
    states = [
        (ours.network.encode(ids, PaddedView(ids, causal=False)) - run.state).abs()
        for run in runs
        for ids in (torch.tensor([run.ids]),)
    ]
    found = [_decoded(ours, run) for run in runs]
    logits = [(mine - run.logits).abs() for mine, run in zip(found, runs, strict=True)]
    best = torch.cat([mine.argmax(-1) == run.logits.argmax(-1) for mine, run in zip(found, runs, strict=True)])
    greedy = sum(_greedy(ours, run.ids) == run.answer for run in runs)
    print(f"  {name}:")
    for what, differences, scale in (
        ("encoder states", states, torch.stack([run.state.std() for run in runs]).mean()),
        ("logits", logits, torch.stack([run.logits.std() for run in runs]).mean()),
    ):
        means, equal = (
            torch.stack([each.mean() for each in differences]),
            sum(bool(each.max() < EQUAL) for each in differences),
        )
        print(f"    {what}, of standard deviation {scale:.2g}: they differ by {means.mean():.2g} in the mean,")
        print(
            f"      {means.median():.2g} in the median text, by less than {EQUAL} everywhere in {equal} of {len(runs)}"
        )
    print(f"    likeliest token equal at {best.float().mean():.1%} of {len(best)} places")
    print(f"    greedy answers equal, encoder and decoder together: {greedy} of {len(runs)}")


def _decoded(ours: Any, run: Run) -> Tensor:
    """Our logits [T, V] of what the ONNX decoder read, given the ONNX encoder's output."""
    read = torch.tensor([[ours.decoder_start_id, *run.answer]])
    return ours.network.logits(ours.network.hidden_states(read, PaddedView(read, causal=True, memory=run.state))[0])


def _greedy(ours: Any, ids: list[int]) -> list[int]:
    written = [ours.decoder_start_id]
    while len(written) <= LONGEST_ANSWER:
        states = ours.network(torch.tensor([ids]), decoder_input_ids=torch.tensor([written]))
        token = int(ours.network.logits(states[0])[-1].argmax())  # all at once: what is rounded, is rounded together
        if token == ours.tokenizer.eos_id:
            break
        written.append(token)
    return written[1:]


@contextmanager
def rounded_inputs(network: nn.Module) -> Iterator[None]:
    """Inside, whatever goes into a linear layer of `network` is rounded to 8 bits and back."""
    layers = [module for module in network.modules() if isinstance(module, nn.Linear)]
    hooks = [layer.register_forward_pre_hook(lambda _, given: (rounded(given[0]),)) for layer in layers]
    before = network.logits
    network.logits = lambda states: before(rounded(states))  # the output matrix is not called as a layer
    try:
        yield
    finally:
        del network.logits
        for hook in hooks:
            hook.remove()


def rounded(values: Tensor) -> Tensor:
    """DynamicQuantizeLinear and back: one scale and zero point for all values, from the smallest to the largest."""
    low, high = values.min().clamp(max=0), values.max().clamp(min=0)
    scale = (high - low) / 255
    zero = (-low / scale).round().clamp(0, 255)
    return ((values / scale).round().add(zero).clamp(0, 255) - zero) * scale


def _row(ids: list[int]) -> np.ndarray:
    return np.array([ids], dtype=np.int64)
