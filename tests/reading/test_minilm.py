"""The real MiniLM against transformers with the three lines that its card gives for pooling."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from sentence_transformers import SentenceTransformer

import germinal
from germinal.checkpoints import sources

REVIEWS = Path(__file__).parents[2] / "examples" / "reviews" / "reviews.csv"


@pytest.fixture(scope="module")
def reviews() -> list[str]:
    with REVIEWS.open(encoding="utf-8", newline="") as file:
        return [row["text"] for _, row in zip(range(200), csv.DictReader(file), strict=False)]


def test_vectors_are_transformers_pooled_by_hand(minilm: str, reviews: list[str]) -> None:
    folder = sources.fetch(minilm)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder).eval()
    found = germinal.load(minilm).encode(reviews)
    assert found.shape == (200, 384)
    for start in range(0, 200, 50):
        inputs = tokenizer(reviews[start : start + 50], padding=True, return_tensors="pt")
        with torch.no_grad():
            states = model(**inputs).last_hidden_state
        mask = inputs["attention_mask"][:, :, None]
        pooled = torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1))
        np.testing.assert_allclose(found[start : start + 50], pooled.numpy(), atol=1e-4)


def test_vectors_are_sentence_transformers(minilm: str, reviews: list[str]) -> None:
    peer = SentenceTransformer(str(sources.fetch(minilm)), device="cpu")
    np.testing.assert_allclose(germinal.load(minilm).encode(reviews), peer.encode(reviews), atol=1e-4)


def test_its_head_config_survives_saving(minilm: str, reviews: list[str], tmp_path: Path) -> None:
    lm = germinal.load(minilm)
    again = germinal.load(lm.save(tmp_path / "saved"))
    assert again.head_config.pooling == lm.head_config.pooling
    np.testing.assert_array_equal(again.encode(reviews[:8]), lm.encode(reviews[:8]))


def test_meaning_is_nearer_than_words(minilm: str) -> None:
    warm, loved, dull = germinal.load(minilm).encode(
        ["A warm, funny film", "I laughed and cried", "The engine has oil"]
    )
    assert warm @ loved > warm @ dull


def test_the_alias_counts_its_parameters(minilm: str) -> None:
    assert germinal.load(minilm).network.num_parameters() == sources.ALIASES[minilm].parameters
