"""Training, dev and test split by the rank of a hash.

Rows are ranked by a hash of their `unit` (group, or input); test takes from the front of the rank, dev from its back,
and what lies between trains. Neither the order of the file nor its name decides anything, there is no seed to try until
the figures look good, the size of one split does not change the other, and a row that is added pushes at most one unit
across each border. Rows of one unit always stay together, so a split can hold a few rows more than asked for: it takes
whole units until it has at least as many.
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
    """The three splits, each in the order of the rank, which is as good as random and never that of the file."""

    train: tuple[Row, ...]
    dev: tuple[Row, ...]
    test: tuple[Row, ...]

    @property
    def labels(self) -> tuple[str, ...]:
        """The targets that the training split knows, sorted."""
        return tuple(sorted({row.target for row in self.train}))


def split(rows: Sequence[Row], *, dev: int | float, test: int | float) -> Splits:
    """Split rows into train, dev and test.

    Args:
        dev: Rows in the dev split: a count (int), or a share of all rows (float between 0 and 1).
        test: The same for the test split.

    Raises:
        SettingError: a size is not positive, or the shares leave nothing.
        DataError: there are too few rows.
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
        what = f"{len(rows)} rows in {len(ranked)} units do not give {asked} and leave some to train on."
        raise DataError(what, where="split", hint="Make dev and test smaller, or bring more rows.")
    parts = (ranked[tested : tested + left], ranked[tested + left :], ranked[:tested])
    train, dev_rows, test_rows = (tuple(row for unit in part for row in unit) for part in parts)
    return Splits(train, dev_rows, test_rows)


def check_labels(splits: Splits, labels: Sequence[str] | None = None) -> None:
    """See that every label of dev and test is in the training split and, where labels are declared, is one of them.

    Raises:
        DataError: with the label and how many rows of which split have it.
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
        hint = "Add training rows for it, make dev and test smaller, or see whether the target column is the right one."
        raise DataError(f"no row of the training split has the label {described}.", where="data", hint=hint)


def _counted(counts: dict[str, Counter[str]], label: str) -> str:
    return ", ".join(f"{counter[label]} of {counter.total()} rows of {name}" for name, counter in counts.items())


def _rank(unit: str) -> bytes:
    # Hashed once more, so that whatever else orders rows by their keys (few-shot examples) is independent of the split.
    return sha256(f"split:{unit}".encode()).digest()


def _first_units(ranked: Sequence[Sequence[Row]], size: int) -> int:
    """How many of the first units it takes to have `size` rows."""
    count, rows = 0, 0
    while rows < size and count < len(ranked):
        rows += len(ranked[count])
        count += 1
    return count


def _size(name: str, size: int | float, rows: int) -> int:
    """A size in rows."""
    where = f"split.{name}"
    if isinstance(size, bool) or not isinstance(size, int | float):
        raise SettingError(f"{size!r} is neither a count nor a share.", where=where, hint="Write 300, or 0.2.")
    if isinstance(size, int):
        if size < 1:
            raise SettingError(f"{size} rows are too few.", where=where, hint="Take at least 1.")
        return size
    if not 0 < size < 1:
        hint = "Write 300 for a count, 0.2 for a share."
        raise SettingError(f"a share of {size} is not between 0 and 1.", where=where, hint=hint)
    return max(1, floor(Fraction(str(size)) * rows + Fraction(1, 2)))  # exact: 0.29 of 100 is 29
