"""Settings and fixtures of all tests."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# More threads than cores make torch crawl: tests that run side by side have one thread each.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "2")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest
from tiny_models import random_llama, small_tokenizer


@pytest.fixture(scope="session")
def make_llama_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`make_llama_folder(**config)`: a folder saved by transformers, tokenizer and chat template included."""

    def make(**overrides: Any) -> Path:
        folder = tmp_path_factory.mktemp("llama")
        tokenizer = small_tokenizer()
        model = random_llama(vocab_size=len(tokenizer), bos_token_id=1, eos_token_id=2, pad_token_id=0, **overrides)
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return folder

    return make


@pytest.fixture(scope="session")
def llama_folder(make_llama_folder: Callable[..., Path]) -> Path:
    """One small LLaMA folder for tests that only read it."""
    return make_llama_folder()


SMOLLM2 = "smollm2-135m-instruct"


@pytest.fixture(scope="session")
def smollm2() -> str:
    """The alias of the real decoder, fetched if it is not in the cache; with `minilm` all that the tests may fetch."""
    from germinal.checkpoints import sources

    sources.fetch(SMOLLM2, offline=False)
    return SMOLLM2


@pytest.fixture(scope="session")
def minilm() -> str:
    """The alias of the real encoder, fetched if it is not in the cache."""
    from germinal.checkpoints import sources

    sources.fetch("minilm", offline=False)
    return "minilm"


@pytest.fixture(scope="session")
def smollm2_folder(smollm2: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The real model as a Hugging Face folder, float32."""
    import germinal

    folder: Path = germinal.load(smollm2, precision="float32").save(tmp_path_factory.mktemp("smollm2") / "converted")
    yield folder
    shutil.rmtree(folder)  # half a gigabyte, which pytest would keep for three runs
