"""Whatever is wrong with a file, reading it ends in an answer or a GerminalError, in bounded time and memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from fuzzing.harness import run
from fuzzing.samples import SAMPLES, write_all

LOADS, MANY = 2_000, 20_000
PARTS = 4


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("samples")
    write_all(folder)
    return folder


def test_the_samples_can_be_used_as_they_are(samples: Path) -> None:
    for sample in SAMPLES:
        sample.use(samples / sample.name)


@pytest.mark.parametrize("part", range(PARTS))
def test_damaged_files_are_refused_or_read(samples: Path, part: int) -> None:
    outcome = run(samples, part * LOADS // PARTS, LOADS // PARTS)
    assert not outcome.failures, str(outcome)
    assert outcome.counts["refused"] > outcome.counts["read"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("part", range(10))
def test_many_more_damaged_files_are_refused_or_read(samples: Path, part: int) -> None:
    outcome = run(samples, LOADS + part * MANY // 10, MANY // 10)
    assert not outcome.failures, str(outcome)
