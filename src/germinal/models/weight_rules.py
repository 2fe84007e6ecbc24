"""Declarative, reversible rules between a published layout of weights and ours: a rename and, if needed, a transform.

Layout quirks end here: the network never sees them, and a folder is written with the same rules that read it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Transform:
    """A reversible change of one tensor; this one changes nothing."""

    def to_ours(self, tensor: Tensor) -> Tensor:
        return tensor

    def to_theirs(self, tensor: Tensor) -> Tensor:
        return tensor


@dataclass(frozen=True, slots=True)
class PermuteRotary(Transform):
    """Rows of a query or key projection whose rotary pairs lie side by side (Meta, GGUF) <-> in halves (ours)."""

    num_heads: int

    def to_ours(self, tensor: Tensor) -> Tensor:
        """[H E, ...] with rows (0, 1), (2, 3), ... a head -> rows 0, 2, 4, ... then 1, 3, 5, ..."""
        return tensor.reshape(self.num_heads, -1, 2, *tensor.shape[1:]).transpose(1, 2).reshape(tensor.shape)

    def to_theirs(self, tensor: Tensor) -> Tensor:
        return tensor.reshape(self.num_heads, 2, -1, *tensor.shape[1:]).transpose(1, 2).reshape(tensor.shape)


@dataclass(frozen=True, slots=True)
class WeightRule:
    """One line of a family's table.

    Attributes:
        theirs: Published name; `{i}` stands for the layer's number.
        ours: Name in our network, with the same `{i}`.
        transform: What to do with the tensor on the way.
    """

    theirs: str
    ours: str
    transform: Transform = Transform()


class WeightRules:
    """A family's rules for one published layout.

    Args:
        rules: One for each kind of tensor.
        ignored: Published names (with `{i}`) that hold nothing to load: buffers that the config gives anyway.
    """

    def __init__(self, rules: list[WeightRule], ignored: tuple[str, ...] = ()) -> None:
        self._to_ours = [(_pattern(rule.theirs), rule.ours, rule.transform) for rule in rules]
        self._to_theirs = [(_pattern(rule.ours), rule.theirs, rule.transform) for rule in rules]
        self._ignored = [_pattern(name) for name in ignored]

    def ours(self, name: str) -> tuple[str, Transform] | None:
        """Our name of a published tensor and the transform to apply (`to_ours`); None when no rule knows it."""
        return _rename(name, self._to_ours)

    def theirs(self, name: str) -> tuple[str, Transform] | None:
        """The published name of a tensor of ours and the transform to apply (`to_theirs`); None when unknown."""
        return _rename(name, self._to_theirs)

    def ignores(self, name: str) -> bool:
        """Whether a published tensor is known to hold nothing to load."""
        return any(pattern.fullmatch(name) for pattern in self._ignored)

    def convert_to_theirs(self, tensors: dict[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
        """Our tensors under their published names, one at a time.

        Raises:
            KeyError: a tensor of ours has no published name (a family's table is incomplete).
        """
        for name, tensor in tensors.items():
            found = self.theirs(name)
            if found is None:
                raise KeyError(name)
            published, transform = found
            yield published, transform.to_theirs(tensor)


def _pattern(name: str) -> re.Pattern[str]:
    return re.compile(re.escape(name).replace(r"\{i\}", r"(?P<i>\d+)"))


def _rename(name: str, table: list[tuple[re.Pattern[str], str, Transform]]) -> tuple[str, Transform] | None:
    for pattern, target, transform in table:
        match = pattern.fullmatch(name)
        if match:
            return target.replace("{i}", match.groupdict().get("i", "")), transform
    return None
