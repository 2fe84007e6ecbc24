"""Every published size of every family: its config, and how many weights it has.

Counts are computed from the config and are those of the publisher's model: with the pooler of an encoder that was
published with one, without a logit bias that the publisher keeps as a buffer. `note` says where the published count
differs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from germinal.layers.positions import RopeScaling
from germinal.models.config import TransformerConfig
from germinal.models.families import FAMILIES
from germinal.models.families.family import inverse_root_of_width
from germinal.models.transformer import Transformer

BYTES = {"float32": 4, "bfloat16": 2}
"""Bytes per weight, by precision."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """One published model.

    Attributes:
        name: As its publisher calls it, in lower case.
        family: A name in `germinal.models.families.FAMILIES`.
        config: Its config.
        not_counted: Parameters that the publisher does not count.
        note: A remark on the count.
    """

    name: str
    family: str
    config: TransformerConfig
    not_counted: tuple[str, ...] = ()
    note: str = ""

    def parameters(self) -> int:
        """The number of weights; a tied output matrix counts once.

        All blocks of a stack have the same size, so that a network with one block per stack, on the meta device, is
        enough to compute it.
        """
        single = replace(self.config, num_layers=1, num_encoder_layers=None, windowed_layers=None)
        blocks = {"encoder.layers.0.": self.config.encoder_layers, "decoder.layers.0.": self.config.num_layers}
        return sum(
            parameter.numel() * next((times for prefix, times in blocks.items() if name.startswith(prefix)), 1)
            for name, parameter in Transformer(single, device="meta").named_parameters()
            if name not in self.not_counted
        )


def _row(layers: int, width: int, heads: int, inner: int, **more: Any) -> dict[str, Any]:
    sizes = {"num_layers": layers, "hidden_size": width, "num_heads": heads, "intermediate_size": inner}
    return {**sizes, **more}


def _sizes(
    family: str, shared: Mapping[str, Any], rows: Mapping[str, Mapping[str, Any]], **about: Any
) -> Iterator[Size]:
    for name, row in rows.items():
        yield Size(name=name, family=family, config=FAMILIES[family].config(**{**shared, **row}), **about)


def _window(layers: int, width: int) -> dict[str, Any]:
    """Five windowed layers for each layer without a window."""
    return {"window": width, "windowed_layers": tuple((layer + 1) % 6 != 0 for layer in range(layers))}


def _llama3(factor: float) -> dict[str, Any]:
    return {"max_position_embeddings": 131_072, "rope_scaling": RopeScaling("llama3", factor)}


_BERT = {"vocab_size": 30_522, "max_position_embeddings": 512, "head": "pooler"}
_CASED = {"vocab_size": 28_996}
_ROBERTA = {"vocab_size": 50_265, "max_position_embeddings": 512, "head": "pooler"}
_DISTIL = {"max_position_embeddings": 512, "head": None}
_T5 = {"vocab_size": 32_128, "max_position_embeddings": 512, "head_dim": 64}
_T5_FIRST = {"gated": False, "activation": "relu", "tie_embeddings": True, "logit_scale": inverse_root_of_width}
_GPT2 = {"vocab_size": 50_257, "max_position_embeddings": 1024}
_PALM = {"vocab_size": 256_000, "max_position_embeddings": 2048, "head_dim": 256}
_LLAMA1 = {"vocab_size": 32_000, "max_position_embeddings": 2048, "norm_eps": 1e-6}
_LLAMA2 = {"vocab_size": 32_000, "max_position_embeddings": 4096}
_LLAMA3 = {"vocab_size": 128_256, "max_position_embeddings": 8192, "rope_theta": 500_000.0, "num_kv_heads": 8}
_SMOLLM2 = {"vocab_size": 49_152, "max_position_embeddings": 8192, "rope_theta": 100_000.0, "tie_embeddings": True}
_MISTRAL = {"max_position_embeddings": 32_768, "num_kv_heads": 8, "rope_theta": 1_000_000.0, "window": None}
_QWEN = {"max_position_embeddings": 32_768, "rope_theta": 1_000_000.0, "norm_eps": 1e-6}
_QWEN2_SMALL = {**_QWEN, "vocab_size": 151_936, "num_kv_heads": 2, "tie_embeddings": True}
_QWEN2_LARGE = {**_QWEN, "vocab_size": 152_064, "num_kv_heads": 8}
_QWEN3 = {**_QWEN, "vocab_size": 151_936, "max_position_embeddings": 40_960, "num_kv_heads": 8, "head_dim": 128}
_GEMMA3 = {"vocab_size": 262_144, "max_position_embeddings": 32_768, "head_dim": 256}
_GEMMA3_LARGE = {
    **_GEMMA3,
    "vocab_size": 262_208,
    "max_position_embeddings": 131_072,
    "rope_scaling": RopeScaling("linear", 8.0),
}

_T5_SIZES = {
    "small": _row(8, 512, 6, 1024),
    "base": _row(12, 768, 12, 2048),
    "large": _row(24, 1024, 16, 2816),
    "xl": _row(24, 2048, 32, 5120),
    "xxl": _row(24, 4096, 64, 10_240),
}

SIZES: tuple[Size, ...] = (
    *_sizes(
        "transformer",
        {"vocab_size": 37_000, "max_position_embeddings": 512},
        {"transformer-base": _row(6, 512, 8, 2048)},
        note="the paper prints 65 M; computed for a vocabulary of 37,000",
    ),
    *_sizes(
        "transformer",
        {"vocab_size": 37_000, "max_position_embeddings": 512},
        {"transformer-big": _row(6, 1024, 16, 4096)},
        note="the paper prints 213 M; computed for a vocabulary of 37,000",
    ),
    *_sizes(
        "bert",
        _BERT,
        {
            "bert-tiny": _row(2, 128, 2, 512),
            "bert-mini": _row(4, 256, 4, 1024),
            "bert-small": _row(4, 512, 8, 2048),
            "bert-medium": _row(8, 512, 8, 2048),
            "bert-base-uncased": _row(12, 768, 12, 3072),
            "bert-base-cased": _row(12, 768, 12, 3072, **_CASED),
            "bert-base-multilingual-cased": _row(12, 768, 12, 3072, vocab_size=119_547),
            "bert-large-uncased": _row(24, 1024, 16, 4096),
            "bert-large-cased": _row(24, 1024, 16, 4096, **_CASED),
            "all-minilm-l6-v2": _row(6, 384, 12, 1536),
            "all-minilm-l12-v2": _row(12, 384, 12, 1536),
        },
    ),
    *_sizes(
        "roberta",
        _ROBERTA,
        {
            "distilroberta-base": _row(6, 768, 12, 3072),
            "roberta-base": _row(12, 768, 12, 3072),
            "roberta-large": _row(24, 1024, 16, 4096),
        },
    ),
    *_sizes(
        "distilbert",
        _DISTIL,
        {
            "distilbert-base-uncased": _row(6, 768, 12, 3072, vocab_size=30_522),
            "distilbert-base-cased": _row(6, 768, 12, 3072, **_CASED),
            "distilbert-base-multilingual-cased": _row(6, 768, 12, 3072, vocab_size=119_547),
        },
    ),
    *_sizes(
        "bart",
        {"vocab_size": 50_265, "max_position_embeddings": 1024},
        {"bart-base": _row(6, 768, 12, 3072), "bart-large": _row(12, 1024, 16, 4096)},
        not_counted=("logit_bias",),
    ),
    *_sizes(
        "marian",
        {"vocab_size": 58_101, "max_position_embeddings": 512, "embedding_scale": 512**0.5},
        {"opus-mt-en-de": _row(6, 512, 8, 2048)},
        not_counted=("logit_bias",),
        note="its two tables of sinusoids, 524,288 values, are not weights",
    ),
    *_sizes(
        "t5",
        {**_T5, **_T5_FIRST},
        {
            "t5-small": _row(6, 512, 8, 2048),
            "t5-base": _row(12, 768, 12, 3072),
            "t5-large": _row(24, 1024, 16, 4096),
            "t5-3b": _row(24, 1024, 32, 16_384, head_dim=128),
            "t5-11b": _row(24, 1024, 128, 65_536, head_dim=128),
        },
    ),
    *_sizes("t5", _T5, {f"t5-v1.1-{size}": row for size, row in _T5_SIZES.items()}),
    *_sizes("t5", _T5, {f"flan-t5-{size}": row for size, row in _T5_SIZES.items()}),
    *_sizes(
        "gpt2",
        _GPT2,
        {
            "distilgpt2": _row(6, 768, 12, 3072),
            "gpt2": _row(12, 768, 12, 3072),
            "gpt2-medium": _row(24, 1024, 16, 4096),
            "gpt2-large": _row(36, 1280, 20, 5120),
            "gpt2-xl": _row(48, 1600, 25, 6400),
        },
    ),
    *_sizes(
        "bloom",
        {"vocab_size": 250_880, "max_position_embeddings": 2048},
        {
            "bloom-560m": _row(24, 1024, 16, 4096),
            "bloom-1b1": _row(24, 1536, 16, 6144),
            "bloom-1b7": _row(24, 2048, 16, 8192),
            "bloom-3b": _row(30, 2560, 32, 10_240),
            "bloom-7b1": _row(30, 4096, 32, 16_384),
            "bloom-176b": _row(70, 14_336, 112, 57_344),
        },
    ),
    *_sizes("palm", _PALM, {"palm-8b": _row(32, 4096, 16, 16_384), "palm-62b": _row(64, 8192, 32, 32_768)}),
    *_sizes(
        "palm",
        _PALM,
        {"palm-540b": _row(118, 18_432, 48, 73_728)},
        note="the paper prints 540.35 B, which its matrices alone come to",
    ),
    *_sizes(
        "jurassic1",
        {"vocab_size": 256_000, "max_position_embeddings": 2048},
        {"j1-large": _row(32, 4096, 32, 16_384), "j1-jumbo": _row(76, 13_824, 96, 55_296)},
    ),
    *_sizes(
        "llama",
        _LLAMA1,
        {
            "llama-7b": _row(32, 4096, 32, 11_008),
            "llama-13b": _row(40, 5120, 40, 13_824),
            "llama-30b": _row(60, 6656, 52, 17_920),
            "llama-65b": _row(80, 8192, 64, 22_016),
        },
    ),
    *_sizes(
        "llama",
        _LLAMA2,
        {
            "llama-2-7b": _row(32, 4096, 32, 11_008),
            "llama-2-13b": _row(40, 5120, 40, 13_824),
            "llama-2-70b": _row(80, 8192, 64, 28_672, num_kv_heads=8),
        },
    ),
    *_sizes(
        "llama",
        _LLAMA3,
        {
            "llama-3-8b": _row(32, 4096, 32, 14_336),
            "llama-3-70b": _row(80, 8192, 64, 28_672),
            "llama-3.1-8b": _row(32, 4096, 32, 14_336, **_llama3(8.0)),
            "llama-3.1-70b": _row(80, 8192, 64, 28_672, **_llama3(8.0)),
            "llama-3.1-405b": _row(126, 16_384, 128, 53_248, **_llama3(8.0)),
            "llama-3.2-1b": _row(16, 2048, 32, 8192, tie_embeddings=True, **_llama3(32.0)),
            "llama-3.2-3b": _row(28, 3072, 24, 8192, tie_embeddings=True, **_llama3(32.0)),
        },
    ),
    *_sizes(
        "llama",
        _SMOLLM2,
        {
            "smollm2-135m": _row(30, 576, 9, 1536, num_kv_heads=3),
            "smollm2-360m": _row(32, 960, 15, 2560, num_kv_heads=5),
            "smollm2-1.7b": _row(24, 2048, 32, 8192, rope_theta=130_000.0),
        },
    ),
    *_sizes(
        "mistral",
        _MISTRAL,
        {
            "mistral-7b-v0.1": _row(32, 4096, 32, 14_336, vocab_size=32_000, window=4096, rope_theta=10_000.0),
            "mistral-7b-v0.3": _row(32, 4096, 32, 14_336, vocab_size=32_768),
            "mistral-nemo-12b": _row(
                40, 5120, 32, 14_336, vocab_size=131_072, head_dim=128, max_position_embeddings=131_072
            ),
            "mistral-small-24b": _row(40, 5120, 32, 32_768, vocab_size=131_072, head_dim=128, rope_theta=100_000_000.0),
        },
    ),
    *_sizes(
        "qwen2",
        _QWEN2_SMALL,
        {
            "qwen2.5-0.5b": _row(24, 896, 14, 4864),
            "qwen2.5-1.5b": _row(28, 1536, 12, 8960),
            "qwen2.5-3b": _row(36, 2048, 16, 11_008),
        },
    ),
    *_sizes(
        "qwen2",
        _QWEN2_LARGE,
        {
            "qwen2.5-7b": _row(28, 3584, 28, 18_944, num_kv_heads=4),
            "qwen2.5-14b": _row(48, 5120, 40, 13_824),
            "qwen2.5-32b": _row(64, 5120, 40, 27_648),
            "qwen2.5-72b": _row(80, 8192, 64, 29_568),
        },
    ),
    *_sizes(
        "qwen3",
        _QWEN3,
        {
            "qwen3-0.6b": _row(28, 1024, 16, 3072, tie_embeddings=True),
            "qwen3-1.7b": _row(28, 2048, 16, 6144, tie_embeddings=True),
            "qwen3-4b": _row(36, 2560, 32, 9728, tie_embeddings=True),
            "qwen3-8b": _row(36, 4096, 32, 12_288),
            "qwen3-14b": _row(40, 5120, 40, 17_408),
            "qwen3-32b": _row(64, 5120, 64, 25_600),
        },
    ),
    *_sizes(
        "gemma3",
        _GEMMA3,
        {
            "gemma-3-270m": _row(18, 640, 4, 2048, num_kv_heads=1, **_window(18, 512)),
            "gemma-3-1b": _row(26, 1152, 4, 6912, num_kv_heads=1, **_window(26, 512)),
        },
    ),
    *_sizes(
        "gemma3",
        _GEMMA3_LARGE,
        {
            "gemma-3-4b": _row(34, 2560, 8, 10_240, num_kv_heads=4, **_window(34, 1024)),
            "gemma-3-12b": _row(48, 3840, 16, 15_360, num_kv_heads=8, **_window(48, 1024)),
            "gemma-3-27b": _row(
                62, 5376, 32, 21_504, num_kv_heads=16, head_dim=128, attention_scale=168**-0.5, **_window(62, 1024)
            ),
        },
        note="the text model; its vision encoder is not counted",
    ),
)
