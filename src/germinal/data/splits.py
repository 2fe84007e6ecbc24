"""Split rows into train, dev and test by the rank of a hash.

Rows are ranked by a hash of their `unit` (group, or input); test takes the front of the ranking, dev the back, and
train what lies between. So the file's order and name have no influence, there is no seed to tune until the results look
good, the size of one split does not change the other, and adding a row moves at most one unit across each border. Rows
of one unit always stay together, so a split can hold a few rows more than asked for: it takes whole units until it has
at least that many.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from hashlib import sha256
from math import floor

from germinal.data.dataset import Row
from germinal.errors import DataError, SettingError, nearest


@dataclass(frozen=True, slots=True)
class Splits:
    """The three splits, each ordered by rank: as good as a random order, and independent of the file's."""

    train: tuple[Row, ...]
    dev: tuple[Row, ...]
    test: tuple[Row, ...]

    @property
    def labels(self) -> tuple[str, ...]:
        """The targets that occur in the training split, sorted."""
        return tuple(sorted({row.target for row in self.train}))


def split(rows: Sequence[Row], *, dev: int | float, test: int | float) -> Splits:
    """Split rows into train, dev and test.

    Args:
        dev: Rows in the dev split: a count (int), or a share of all rows (float between 0 and 1).
        test: The same for the test split.

    Raises:
        SettingError: a size is neither a positive count nor a share between 0 and 1.
        DataError: there are too few rows to leave any for training.
    """
    sizes = {"test": _size("test", test, len(rows)), "dev": _size("dev", dev, len(rows))}
    units: dict[str, list[Row]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: row.id):
        units[row.unit].append(row)
    ranked = [units[unit] for unit in sorted(units, key=_rank)]
    tested = _first_units(ranked, sizes["test"])
    chosen = _first_units(ranked[::-1], sizes["dev"])
    left = len(ranked) - tested - chosen
    if left < 1:
        asked = " and ".join(f"{size} to {name}" for name, size in sizes.items())
        what = f"{len(rows)} rows in {len(ranked)} units are too few to give {asked} and leave some to train on."
        raise DataError(what, where="split", hint="Make dev and test smaller, or add rows.")
    parts = (ranked[tested : tested + left], ranked[tested + left :], ranked[:tested])
    train, dev_rows, test_rows = (tuple(row for unit in part for row in unit) for part in parts)
    return Splits(train, dev_rows, test_rows)


def check_labels(splits: Splits, labels: Sequence[str] | None = None) -> None:
    """Check that every label occurs in the training split and, if labels are declared, is one of them.

    Raises:
        DataError: a label fails the check; the message counts its rows in each split.
    """
    counts = {name: Counter(row.target for row in getattr(splits, name)) for name in ("train", "dev", "test")}
    seen = sorted(set().union(*counts.values()))
    if labels is not None:
        for label in seen:
            if label not in labels:
                what = f"label '{label}' ({_counted(counts, label)}) is not among the declared labels."
                raise DataError(what, where="labels", hint=nearest(label, list(labels)))
        seen = sorted(set(seen) | set(labels))
    unknown = [label for label in seen if not counts["train"][label]]
    if unknown:
        described = "; ".join(f"'{label}' ({_counted(counts, label)})" for label in unknown)
        hint = "Add training rows for it, make dev and test smaller, or check that the target column is the right one."
        raise DataError(f"no row of the training split has the label {described}.", where="data", hint=hint)


def _counted(counts: dict[str, Counter[str]], label: str) -> str:
    return ", ".join(f"{counter[label]} of {counter.total()} rows of {name}" for name, counter in counts.items())


def _rank(unit: str) -> bytes:
    # Hashed again, so that other orders by key (the choice of few-shot examples) are independent of the split.
    return sha256(f"split:{unit}".encode()).digest()


def _first_units(ranked: Sequence[Sequence[Row]], size: int) -> int:
    """How many units from the front hold at least `size` rows."""
    count, rows = 0, 0
    while rows < size and count < len(ranked):
        rows += len(ranked[count])
        count += 1
    return count


def _size(name: str, size: int | float, rows: int) -> int:
    """A split's size in rows."""
    where = f"split.{name}"
    if isinstance(size, bool) or not isinstance(size, int | float):
        raise SettingError(
            f"{size!r} is neither a count nor a share.", where=where, hint="Write a count (300) or a share (0.2)."
        )
    if isinstance(size, int):
        if size < 1:
            raise SettingError(f"{size} rows are too few.", where=where, hint="Give at least 1.")
        return size
    if not 0 < size < 1:
        hint = "Write 300 for a count, 0.2 for a share."
        raise SettingError(f"a share of {size} is not between 0 and 1.", where=where, hint=hint)
    return max(1, floor(Fraction(str(size)) * rows + Fraction(1, 2)))  # exact: 0.29 of 100 is 29
