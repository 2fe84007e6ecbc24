"""Choosing worked examples for a few-shot prompt: balanced by label, and stable when the data grows.

Candidates are ranked by a hash of the seed and their own key, never by their place in a file: a row more, or rows in
another order, change the choice only when the new row itself ranks among the chosen.
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
    """Choose `shots` examples, each label as often as the next (give or take one), in an order that the seed decides.

    Args:
        candidates: Rows of the training split as (key, input, target).
        shots: How many to choose.
        seed: Another seed gives another choice and another order.
        labels: The targets to balance over; None (free-text targets) ranks all candidates together.

    Raises:
        DataError: there are fewer candidates than shots.
    """
    usable = [row for row in candidates if labels is None or row[2] in set(labels)]
    if len(usable) < shots:
        raise DataError(
            f"{shots} examples are asked for, but the training split has {len(usable)} rows to choose from.",
            hint="Ask for fewer shots, or give the training split more rows.",
        )
    groups: dict[str, list[Candidate]] = defaultdict(list)
    for row in sorted(usable, key=lambda row: _rank("choose", seed, row[0])):
        groups[row[2] if labels is not None else ""].append(row)
    # When shots are not a multiple of the labels, the seed says which labels get one more.
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
