"""Compare the folder that make_model.py writes with the ONNX graphs it was made from, on texts of summaries.csv.

The encoders are compared with each other; the decoders too, both given the ONNX encoder's output; and the greedy
answers of encoder and decoder together. This is done twice: with the published graphs, which quantize the input of
every product to 8 bits (ONNX's DynamicQuantizeLinear), and with that quantization removed, so that both sides multiply
the same weights in float.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import germinal
from germinal.layers.attention import PaddedView

PREFIX = "summarize agent step: "
TEXTS = Path(__file__).with_name("summaries.csv")
COUNT = 50
LONGEST_INPUT, LONGEST_ANSWER = 48, 24
"""In tokens. The package's tokenizer truncates inputs to the first."""


@dataclass(frozen=True)
class Run:
    """The graphs' results for one input: the encoder's output [1, S, D] and the logits at each answer token [T, V]."""

    ids: list[int]
    state: Tensor
    logits: Tensor
    answer: list[int]


class OnnxRun:
    """The two graphs of the package under onnxruntime.

    Args:
        folder: The folder of the graphs.
        rounding: Whether they quantize the inputs of products, as the published graphs do.
    """

    def __init__(self, folder: Path, *, rounding: bool) -> None:
        import onnx
        import onnxruntime

        self._encoder, self._decoder = (
            onnxruntime.InferenceSession(
                (model if rounding else without_rounding(model)).SerializeToString(),
                providers=["CPUExecutionProvider"],
            )
            for stack in ("encoder", "decoder")
            for model in (onnx.load(folder / f"{stack}.onnx"),)
        )

    def encode(self, ids: list[int]) -> Tensor:
        """Token ids [S] -> [1, S, D]."""
        (state,) = self._encoder.run(None, {"input_ids": _row(ids), "attention_mask": _row([1] * len(ids))})
        return torch.from_numpy(state)

    def logits(self, state: Tensor, ids: list[int]) -> Tensor:
        """The encoder's output [1, S, D] and the decoder's input ids [T] -> [T, V]."""
        given = {"encoder_hidden_states": state.numpy(), "encoder_attention_mask": _row([1] * state.shape[1])}
        (logits,) = self._decoder.run(None, {"input_ids": _row(ids), **given})
        return torch.from_numpy(logits)[0]

    def run(self, ids: list[int], start: int, end: int) -> Run:
        """A greedy answer with its states and logits. The graph has no cache, so each step reads all tokens again."""
        state, written = self.encode(ids), [start]
        while True:
            logits = self.logits(state, written)
            best = int(logits[-1].argmax())
            if best == end or len(written) > LONGEST_ANSWER:
                return Run(ids, state, logits, written[1:])
            written.append(best)


@torch.inference_mode()
def compare(source: Path, folder: Path) -> None:
    """Print the differences between the two."""
    try:
        theirs = {rounding: OnnxRun(source, rounding=rounding) for rounding in (False, True)}
    except ImportError:
        print("Not compared with its ONNX run: pip install onnx onnxruntime")
        return
    ours = germinal.load(folder, device="cpu")
    with TEXTS.open(encoding="utf-8", newline="") as file:
        texts = [PREFIX + row["text"] for row, _ in zip(csv.DictReader(file), range(COUNT), strict=False)]
    inputs = [[*ours.tokenizer.encode(text, add_special_tokens=False)[: LONGEST_INPUT - 1], 1] for text in texts]
    start, end = ours.decoder_start_id, ours.tokenizer.eos_id
    assert end is not None
    print(f"Compared with its ONNX run on {len(inputs)} inputs of at most {LONGEST_INPUT} tokens:", flush=True)
    for name, rounding in (("without its rounding", False), ("as published", True)):
        _report(name, ours, [theirs[rounding].run(ids, start, end) for ids in inputs])


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
    for what, differences, values in (
        ("encoder states", states, [run.state for run in runs]),
        ("logits", logits, [run.logits for run in runs]),
    ):
        mean, most = (torch.stack([reduce(each) for each in differences]) for reduce in (torch.mean, torch.max))
        deviation = torch.stack([each.std() for each in values]).mean()
        print(
            f"    {what}, of standard deviation {deviation:.2g}: "
            f"they differ by {mean.mean():.2g} in the mean, by {most.max():.1g} at most"
        )
    print(f"    likeliest token equal at {best.float().mean():.1%} of {len(best)} places")
    print(f"    greedy answers equal, encoder and decoder together: {greedy} of {len(runs)}")


def _decoded(ours: Any, run: Run) -> Tensor:
    """Our logits [T, V] for the ONNX decoder's input, given the ONNX encoder's output."""
    read = torch.tensor([[ours.decoder_start_id, *run.answer]])
    return ours.network.logits(ours.network.hidden_states(read, PaddedView(read, causal=True, memory=run.state))[0])


def _greedy(ours: Any, ids: list[int]) -> list[int]:
    written = [ours.decoder_start_id]
    while len(written) <= LONGEST_ANSWER:
        states = ours.network(torch.tensor([ids]), decoder_input_ids=torch.tensor([written]))
        # All tokens at once and without a cache, as the graphs compute them.
        token = int(ours.network.logits(states[0])[-1].argmax())
        if token == ours.tokenizer.eos_id:
            break
        written.append(token)
    return written[1:]


def without_rounding(model: Any) -> Any:
    """An ONNX model with its quantized products replaced by products of floats, the weight (q - zero_point) x scale.

    Each product was DynamicQuantizeLinear, MatMulInteger, Cast and Mul by both scales; a MatMul replaces the last.
    """
    from onnx import helper, numpy_helper

    graph = model.graph
    makers = {output: node for node in graph.node for output in node.output}
    readers = {name: node for node in graph.node for name in node.input}
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for product in [node for node in graph.node if node.op_type == "MatMulInteger"]:
        rounded, matrix = product.input[:2]
        stem = matrix.removesuffix("_quantized")
        weight = (values[matrix].astype(np.float32) - values[f"{stem}_zero_point"]) * values[f"{stem}_scale"]
        scaled = readers[readers[product.output[0]].output[0]]
        graph.initializer.append(numpy_helper.from_array(weight, f"{stem}_float"))
        place = list(graph.node).index(scaled)
        graph.node.remove(scaled)
        graph.node.insert(place, helper.make_node("MatMul", [makers[rounded].input[0], f"{stem}_float"], scaled.output))
    return model


def _row(ids: list[int]) -> np.ndarray:
    return np.array([ids], dtype=np.int64)
