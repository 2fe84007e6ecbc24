"""Parameter counts of the published sizes, against what their publishers print."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers
from torch import nn

from germinal.checkpoints.catalogue import ALIASES
from germinal.cli.main import main
from germinal.models.families import FAMILIES
from germinal.models.families.sizes import SIZES, Size
from germinal.models.transformer import Transformer

BY_NAME = {size.name: size for size in SIZES}

EXACT = {
    "bert-tiny": 4_385_920,
    "bert-mini": 11_170_560,
    "bert-small": 28_763_648,
    "bert-medium": 41_373_184,
    "bert-base-uncased": 109_482_240,
    "bert-base-cased": 108_310_272,
    "bert-base-multilingual-cased": 177_853_440,
    "bert-large-uncased": 335_141_888,
    "bert-large-cased": 333_579_264,
    "all-minilm-l6-v2": 22_713_216,
    "all-minilm-l12-v2": 33_360_000,
    "distilroberta-base": 82_118_400,
    "roberta-base": 124_645_632,
    "roberta-large": 355_359_744,
    "distilbert-base-uncased": 66_362_880,
    "bart-base": 139_420_416,
    "bart-large": 406_291_456,
    "opus-mt-en-de": 74_410_496 - 524_288,  # of which two tables of sinusoids, [512, 512] each
    "t5-small": 60_506_624,
    "t5-base": 222_903_552,
    "t5-large": 737_668_096,
    "t5-3b": 2_851_598_336,
    "t5-11b": 11_307_321_344,
    "flan-t5-small": 76_961_152,
    "flan-t5-base": 247_577_856,
    "flan-t5-large": 783_150_080,
    "flan-t5-xl": 2_849_757_184,
    "flan-t5-xxl": 11_135_332_352,
    "distilgpt2": 81_912_576,
    "gpt2": 124_439_808,
    "gpt2-medium": 354_823_168,
    "gpt2-large": 774_030_080,
    "gpt2-xl": 1_557_611_200,
    "bloom-560m": 559_214_592,
    "bloom-1b1": 1_065_314_304,
    "bloom-1b7": 1_722_408_960,
    "bloom-3b": 3_002_557_440,
    "bloom-7b1": 7_069_016_064,
    "bloom-176b": 176_247_271_424,
    "llama-7b": 6_738_415_616,
    "llama-13b": 13_015_864_320,
    "llama-30b": 32_528_943_616,
    "llama-65b": 65_285_660_672,
    "llama-2-70b": 68_976_648_192,
    "llama-3-8b": 8_030_261_248,
    "llama-3.1-405b": 405_853_388_800,
    "llama-3.2-1b": 1_235_814_400,
    "llama-3.2-3b": 3_212_749_824,
    "smollm2-135m": 134_515_008,
    "smollm2-360m": 361_821_120,
    "smollm2-1.7b": 1_711_376_384,
    "mistral-7b-v0.1": 7_241_732_096,
    "mistral-7b-v0.3": 7_248_023_552,
    "mistral-nemo-12b": 12_247_782_400,
    "mistral-small-24b": 23_572_403_200,
    "qwen2.5-0.5b": 494_032_768,
    "qwen2.5-1.5b": 1_543_714_304,
    "qwen2.5-3b": 3_085_938_688,
    "qwen2.5-7b": 7_615_616_512,
    "qwen2.5-14b": 14_770_033_664,
    "qwen2.5-32b": 32_763_876_352,
    "qwen2.5-72b": 72_706_203_648,
    "qwen3-0.6b": 596_049_920,
    "qwen3-1.7b": 1_720_574_976,
    "qwen3-4b": 4_022_468_096,
    "qwen3-8b": 8_190_735_360,
    "qwen3-14b": 14_768_307_200,
    "qwen3-32b": 32_762_123_264,
    "gemma-3-270m": 268_098_176,
    "gemma-3-1b": 999_885_952,
}

PRINTED = {"j1-large": (7.5, 1), "j1-jumbo": (178, 0)}  # billions, digits
PRINTED_OF_MATRICES = {"palm-8b": 8.63, "palm-62b": 62.50, "palm-540b": 540.35}


@pytest.mark.parametrize("name", EXACT)
def test_the_published_count_to_the_last_weight(name: str) -> None:
    assert BY_NAME[name].parameters() == EXACT[name]


@pytest.mark.parametrize("name", PRINTED)
def test_the_digits_that_the_paper_prints(name: str) -> None:
    billions, digits = PRINTED[name]
    assert round(BY_NAME[name].parameters() / 1e9, digits) == billions


@pytest.mark.parametrize("name", PRINTED_OF_MATRICES)
def test_the_digits_that_the_paper_prints_for_the_matrices_alone(name: str) -> None:
    """With the norms' factors the largest has 540.356 billion: the paper's 540.35 leaves them out."""
    size, printed = BY_NAME[name], PRINTED_OF_MATRICES[name]
    matrices = [tensor for tensor in Transformer(size.config, device="meta").parameters() if tensor.dim() > 1]
    assert round(sum(tensor.numel() for tensor in matrices) / 1e9, 2) == printed
    assert size.parameters() / 1e9 == pytest.approx(printed, abs=0.01)


@pytest.mark.parametrize(("name", "millions"), [("transformer-base", 63.1), ("transformer-big", 214.2)])
def test_the_first_transformer_is_computed_and_says_so(name: str, millions: float) -> None:
    """The paper prints 65 M and 213 M, and neither its exact vocabulary nor its count."""
    assert round(BY_NAME[name].parameters() / 1e6, 1) == millions
    assert "the paper prints" in BY_NAME[name].note


def test_the_catalogue_says_the_same() -> None:
    shared = [alias for name, alias in ALIASES.items() if name in BY_NAME]
    assert len(shared) > 15
    for alias in shared:
        size = BY_NAME[alias.name]
        assert alias.parameters == size.parameters(), alias.name
        assert alias.context_window == size.config.max_position_embeddings, alias.name


@pytest.mark.parametrize("size", SIZES, ids=lambda size: size.name)
def test_one_block_a_stack_tells_the_whole(size: Size) -> None:
    """What `parameters` adds up is what the whole network holds."""
    whole = Transformer(size.config, device="meta").named_parameters()
    assert size.parameters() == sum(tensor.numel() for name, tensor in whole if name not in size.not_counted)


def theirs(size: Size) -> nn.Module:
    """transformers' model of the published config that we would write."""
    published = FAMILIES[size.family].config_to_hf(size.config)
    config = transformers.AutoConfig.for_model(**published)
    with torch.device("meta"):
        return getattr(transformers, published["architectures"][0])(config)


PUBLISHED = {name for name, family in FAMILIES.items() if family.model_types[0] in transformers.CONFIG_MAPPING}
LARGEST = {size.family: size for size in SIZES if size.family in PUBLISHED}
LARGEST["t5"] = BY_NAME["t5-11b"]  # transformers builds the untied ones tied, and unties them when weights are loaded


@pytest.mark.parametrize("size", LARGEST.values(), ids=lambda size: size.name)
def test_transformers_counts_as_many(size: Size) -> None:
    fixed = "embed_positions" if size.config.positions.startswith("sinusoidal") else "none"
    counted = sum(tensor.numel() for name, tensor in theirs(size).named_parameters() if fixed not in name)
    assert counted == size.parameters()


def test_every_family_has_a_size() -> None:
    assert {size.family for size in SIZES} == set(FAMILIES)
    assert len(BY_NAME) == len(SIZES)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    def run(*arguments: str) -> str:
        with pytest.raises(SystemExit) as exit:
            main(["models", *arguments])
        assert not exit.value.code
        return capsys.readouterr().out

    return run


def test_the_command_prints_them_all(run: Callable[..., str]) -> None:
    lines = run("--sizes").splitlines()
    found = {line.split()[0]: line for line in lines if line.startswith("  ")}
    assert list(found) == [size.name for size in SIZES]
    for size in SIZES:
        assert f" {size.parameters():,} " in found[size.name]
    heads = [line.split()[0] for line in lines if re.fullmatch(r"\w+: (encoder|decoder|encoder-decoder) *", line)]
    assert heads == [f"{name}:" for name in dict.fromkeys(size.family for size in SIZES)]
    assert all(len(line) <= 120 for line in lines)
    assert any("the paper prints 65 M" in line for line in lines)


def test_the_command_in_json(run: Callable[..., str]) -> None:
    rows: list[dict[str, Any]] = json.loads(run("--sizes", "--json"))
    assert [row["name"] for row in rows] == [size.name for size in SIZES]
    found = {row["name"]: row for row in rows}["palm-540b"]
    assert found["config"]["num_layers"] == 118
    assert found["weight_bytes"]["bfloat16"] == 2 * found["parameters"]
    assert found["weight_bytes"]["float32"] == 4 * found["parameters"]
