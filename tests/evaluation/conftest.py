"""Random samples for the tests of evaluation."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from germinal.evaluation.sample import Sample

LABELS = ("pos", "neg", "mixed")


def random_sample(
    seed: int, rows: int = 60, labels: int = 3, failing: float = 0.1, skill: float = 0.6, clusters: int | None = None
) -> Sample:
    """Answers that are right with probability `skill`, fail with probability `failing`, and have probabilities."""
    rng = np.random.default_rng(seed)
    names = LABELS[:labels]
    truth = rng.integers(labels, size=rows)
    probabilities = rng.dirichlet(np.ones(labels), size=rows)
    said = np.where(rng.random(rows) < skill, truth, rng.integers(labels, size=rows))
    # The greatest probability belongs to what was said.
    for row, label in enumerate(said):
        top = probabilities[row].argmax()
        probabilities[row, [top, label]] = probabilities[row, [label, top]]
    failed = rng.random(rows) < failing
    return Sample(
        labels=names,
        targets=tuple(names[label] for label in truth),
        predictions=tuple(None if fails else names[label] for label, fails in zip(said, failed, strict=True)),
        probabilities=tuple(
            None if fails else dict(zip(names, map(float, row), strict=True))
            for row, fails in zip(probabilities, failed, strict=True)
        ),
        clusters=None
        if clusters is None
        else tuple(f"source {number}" for number in rng.integers(clusters, size=rows)),
    )


@pytest.fixture(scope="session")
def make_sample() -> Callable[..., Sample]:
    return random_sample


WORDS = ["the", "a", "of", "to", "and", "in", "on", "file", "page", "row", "text", "opens", "saves", "shows", "name"]


def random_texts(seed: int, rows: int = 60, failing: float = 0.05, skill: float = 0.6, other: int = 0) -> Sample:
    """Sentences of 1 to 25 words, and answers that keep most words, more of them in some rows than in others.

    Args:
        other: Another number gives other answers to the same targets.
    """
    rng = np.random.default_rng(seed)
    targets = [list(rng.choice(WORDS, size=rng.integers(1, 26))) for _ in range(rows)]
    rng = np.random.default_rng([seed, other])
    predictions: list[str | None] = []
    for target in targets:
        kept = rng.beta(4 * skill, 4 * (1 - skill))
        said = [word if rng.random() < kept else rng.choice(WORDS) for word in target if rng.random() < 0.9]
        predictions.append(None if rng.random() < failing else " ".join(said))
    return Sample((), tuple(" ".join(target) for target in targets), tuple(predictions))


@pytest.fixture(scope="session")
def make_texts() -> Callable[..., Sample]:
    return random_texts
