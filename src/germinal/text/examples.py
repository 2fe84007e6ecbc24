"""Choosing worked examples for a few-shot prompt: balanced by label, and stable when the data grows.

Candidates are ranked by a hash of the seed and their key, not by their place in a file. Reordering the rows never
changes the choice, and an added row changes it only if that row itself is chosen.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from germinal import storage
from germinal.errors import DataError
from germinal.text.prompt import Example

Candidate = tuple[str, str, str]
"""Row key, input, target."""


def choose_examples(
    candidates: Sequence[Candidate], shots: int, seed: int, labels: Sequence[str] | None = None
) -> list[Example]:
    """Choose `shots` examples, equally many of each label (within one), in an order given by the seed.

    Args:
        candidates: Rows of the training split as (key, input, target).
        shots: Number of examples.
        seed: Determines the choice and the order.
        labels: The targets to balance over; None (free-text targets) ranks all candidates together.

    Raises:
        DataError: there are fewer candidates than shots.
    """
    usable = [row for row in candidates if labels is None or row[2] in set(labels)]
    if len(usable) < shots:
        raise DataError(
            f"{shots} examples are needed, but the training split has only {len(usable)} rows to choose from.",
            hint="Use fewer shots, or give the training split more rows.",
        )
    groups: dict[str, list[Candidate]] = defaultdict(list)
    for row in sorted(usable, key=lambda row: _rank("choose", seed, row[0])):
        groups[row[2] if labels is not None else ""].append(row)
    # When shots is not a multiple of the number of labels, the seed decides which labels get one more.
    order = sorted(groups, key=lambda label: _rank("label", seed, label))
    chosen: list[Candidate] = []
    depth = 0
    while len(chosen) < shots:
        layer = [groups[label][depth] for label in order if depth < len(groups[label])]
        chosen += layer[: shots - len(chosen)]
        depth += 1
    chosen.sort(key=lambda row: _rank("order", seed, row[0]))
    return [Example(input=text, target=target) for _, text, target in chosen]


def _rank(purpose: str, seed: int, key: str) -> str:
    return storage.digest([purpose, seed, key])
