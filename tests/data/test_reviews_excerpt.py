"""The committed reviews: what the example's project file and its notice say of them holds."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from germinal.data import check_labels, read_dataset, split

FOLDER = Path(__file__).parents[2] / "examples" / "reviews"


def test_the_excerpt_is_balanced_and_splits_as_the_example_says() -> None:
    dataset = read_dataset(FOLDER / "reviews.csv", input="text", target="label")
    assert Counter(row.target for row in dataset.rows) == {"pos": 1000, "neg": 1000}
    assert len({row.unit for row in dataset.rows}) == 2000  # no two rows differ in case and spacing alone
    splits = split(dataset.rows, dev=300, test=300)
    assert (len(splits.train), len(splits.dev), len(splits.test)) == (1400, 300, 300)
    check_labels(splits, ["pos", "neg"])


def test_the_notice_stands_beside_it() -> None:
    notice = (FOLDER / "NOTICE.txt").read_text(encoding="utf-8")
    for part in ("The MIT License (MIT)", "Copyright (c) 2016 C.J. Hutto", "Hutto, C.J. & Gilbert, E.E. (2014)"):
        assert part in notice
