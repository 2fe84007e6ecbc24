"""Projects that run whole in a few seconds: short reviews and a random LLaMA."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_project import TOML, review, write_rows

from germinal.project import Project


@pytest.fixture(scope="session")
def tiny_model(make_llama_folder: Callable[..., Path]) -> Path:
    """A random LLaMA of two blocks, with a real tokenizer."""
    return make_llama_folder(num_hidden_layers=2, max_position_embeddings=512, initializer_range=0.1)


@pytest.fixture
def make_project(tmp_path: Path, tiny_model: Path) -> Callable[..., Project]:
    """`make_project(old, new, old, new, ...)`: a fresh project, with texts of its file replaced."""

    def make(*replacements: str, rows: int = 90, folder: str = "project") -> Project:
        text = TOML.format(model=tiny_model)
        for old, new in zip(replacements[::2], replacements[1::2], strict=True):
            assert old in text, old
            text = text.replace(old, new)
        path = tmp_path / folder
        path.mkdir(exist_ok=True)
        (path / "germinal.toml").write_text(text, encoding="utf-8")
        write_rows(path / "reviews.csv", [review(number) for number in range(rows)])
        return Project(path)

    return make
