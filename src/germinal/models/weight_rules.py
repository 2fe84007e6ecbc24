"""Declarative, reversible rules between a published layout of weights and ours: a rename and, if needed, a transform.

A published tensor may correspond to several of ours (a fused qkv), never the other way round. Quirks of a layout end
here: the network never sees them, and a folder is written by the same rules that read it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from germinal.errors import CheckpointError


@dataclass(frozen=True, slots=True)
class Transform:
    """A reversible transform of one published tensor into ours; this one is the identity.

    Attributes:
        computes: Whether values change, and not only their places; it then computes in float32.
    """

    computes: ClassVar[bool] = False

    @property
    def of_rows(self) -> Transform:
        """The transform of a matrix [O, R] whose rows are the weight's outputs: the B of an adapter, which is published
        as [O, R] whether or not the weight is transposed.
        """
        return self

    def to_ours(self, tensor: Tensor) -> tuple[Tensor, ...]:
        """Our tensors, in the order of the rule's names."""
        return (tensor,)

    def to_theirs(self, *tensors: Tensor) -> Tensor:
        """The published tensor, from ours."""
        (tensor,) = tensors
        return tensor


@dataclass(frozen=True, slots=True)
class PermuteRotary(Transform):
    """Rows of a query or key projection whose rotary pairs are adjacent (Meta, GGUF) <-> half a head apart (ours)."""

    num_heads: int

    def to_ours(self, tensor: Tensor) -> tuple[Tensor, ...]:
        """[H E, ...] with pairs (0, 1), (2, 3), ... in each head -> rows 0, 2, 4, ..., then 1, 3, 5, ..."""
        return (tensor.reshape(self.num_heads, -1, 2, *tensor.shape[1:]).transpose(1, 2).reshape(tensor.shape),)

    def to_theirs(self, *tensors: Tensor) -> Tensor:
        (tensor,) = tensors
        return tensor.reshape(self.num_heads, 2, -1, *tensor.shape[1:]).transpose(1, 2).reshape(tensor.shape)


@dataclass(frozen=True, slots=True)
class Transpose(Transform):
    """[I, O] (a convolution of width one) <-> [O, I]."""

    @property
    def of_rows(self) -> Transform:
        return Transform()

    def to_ours(self, tensor: Tensor) -> tuple[Tensor, ...]:
        return (tensor.t().contiguous(),)

    def to_theirs(self, *tensors: Tensor) -> Tensor:
        (tensor,) = tensors
        return tensor.t().contiguous()


@dataclass(frozen=True, slots=True)
class Split(Transform):
    """Projections of one input, fused into one tensor <-> one tensor each.

    The fused rows are those of the first part, then those of the second, and so on (queries, keys and values, or gate
    and up, of Phi-3); or they come in groups, each with an equal share of every part: the query, key and value of each
    head (BLOOM, H groups), or the queries, the key and the value of each key-value head (Falcon, InternLM2, K groups).

    Attributes:
        sizes: Rows of each part, in the order of the rule's names.
        groups: The number of groups.
        transposed: Whether the published matrix is [I, O]. A bias is the same either way.
    """

    sizes: tuple[int, ...]
    groups: int = 1
    transposed: bool = False

    @property
    def of_rows(self) -> Transform:
        return replace(self, transposed=False)

    def __post_init__(self) -> None:
        assert all(size % self.groups == 0 for size in self.sizes), f"{self.groups} groups do not share {self.sizes}"

    def to_ours(self, tensor: Tensor) -> tuple[Tensor, ...]:
        """[sum(sizes), ...] -> [sizes[0], ...], [sizes[1], ...], ...

        Raises:
            CheckpointError: the tensor has another number of rows.
        """
        fused = tensor.t() if self.transposed else tensor
        if fused.shape[0] != sum(self.sizes):
            raise CheckpointError(f"has {fused.shape[0]} rows where {_sum(self.sizes)} are expected.")
        by_group = fused.reshape(self.groups, -1, *fused.shape[1:])
        parts = by_group.split_with_sizes([size // self.groups for size in self.sizes], dim=1)
        return tuple(part.reshape(-1, *fused.shape[1:]).contiguous() for part in parts)

    def to_theirs(self, *tensors: Tensor) -> Tensor:
        """The inverse of `to_ours`.

        Raises:
            CheckpointError: a part has another number of rows.
        """
        rows = tuple(tensor.shape[0] for tensor in tensors)
        if rows != self.sizes:
            raise CheckpointError(f"would be made of {_sum(rows)} rows where {_sum(self.sizes)} are expected.")
        by_group = [tensor.reshape(self.groups, -1, *tensor.shape[1:]) for tensor in tensors]
        fused = torch.cat(by_group, dim=1).reshape(-1, *tensors[0].shape[1:])
        return fused.t().contiguous() if self.transposed else fused


def _sum(sizes: tuple[int, ...]) -> str:
    return " + ".join(map(str, sizes))


@dataclass(frozen=True, slots=True)
class Squeeze(Transform):
    """[1, N] <-> [N]."""

    def to_ours(self, tensor: Tensor) -> tuple[Tensor, ...]:
        return (tensor.squeeze(0),)

    def to_theirs(self, *tensors: Tensor) -> Tensor:
        (tensor,) = tensors
        return tensor.unsqueeze(0)


@dataclass(frozen=True, slots=True)
class Shift(Transform):
    """A value that is published with `by` added <-> without."""

    by: float
    computes: ClassVar[bool] = True

    def to_ours(self, tensor: Tensor) -> tuple[Tensor, ...]:
        return (tensor - self.by,)

    def to_theirs(self, *tensors: Tensor) -> Tensor:
        (tensor,) = tensors
        return tensor.float() + self.by


@dataclass(frozen=True, slots=True)
class WeightRule:
    """One line of a family's table.

    Attributes:
        theirs: Published name; `{i}` is the layer's number.
        ours: Name or names in our network, with the same `{i}`. Several rules may have the same: the first is the name
            that is written, and what a checkpoint has under the others must be equal.
        transform: Between the published tensor and ours.
        fallback: Whether a tensor of this name counts only where there is none of another rule's name; their values may
            then differ.
        copied: Whether the tensor is written under this name too, though another rule comes first.
        absent: The value that the published code gives every element where a checkpoint lacks the tensor; None if it
            must be there.
    """

    theirs: str
    ours: str | tuple[str, ...]
    transform: Transform = Transform()
    fallback: bool = False
    copied: bool = False
    absent: float | None = None


Table = Callable[[tuple[int, ...]], Tensor | None]
"""Gives the values of a table for its shape; None if it has no such shape."""

Found = tuple[tuple[str, ...], Transform]


_OLD_NAMES = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}
"""What tensors were called by BERT's first code -> since; transformers renames them in every family."""


class WeightRules:
    """A family's rules for one published layout.

    Args:
        rules: One for each kind of tensor. Of two with the same published name the first applies.
        ignored: Published names (with `{i}`, and with `*` for anything) of tensors that are not loaded unless a rule
            needs them: buffers, and the heads that the model's class does not have.
        computed: Published names of tables that the network computes -> their values. A checkpoint may have them too.
        prefix: What the names of a model within another class start with. A checkpoint's names may have it or not.
    """

    def __init__(
        self,
        rules: list[WeightRule],
        ignored: tuple[str, ...] = (),
        prefix: str = "",
        computed: Mapping[str, Table] | None = None,
    ) -> None:
        self._rules = [(_pattern(rule.theirs), rule) for rule in rules]
        self._ours = [(_pattern(name), rule) for rule in rules for name in _names(rule)]
        self._ignored = [_pattern(name) for name in ignored]
        self._prefix = prefix
        self._computed = computed or {}

    def ours(self, name: str) -> Found | None:
        """Our names of a published tensor and the transform to apply (`to_ours`); None if no rule matches."""
        found = self._rule_of(name)
        if found is None:
            return None
        rule, match = found
        return tuple(_filled(each, match) for each in _names(rule)), rule.transform

    def theirs(self, name: str) -> tuple[str, Transform] | None:
        """The published name of a tensor of ours and the transform to apply (`to_theirs`); None if no rule matches."""
        return next(((theirs, rule.transform) for theirs, rule in self._named(name)), None)

    def ignores(self, name: str) -> bool:
        """Whether a published tensor that no rule needs is to be left out."""
        return any(pattern.fullmatch(each) for each in self._spellings(name) for pattern in self._ignored)

    def computed(self, name: str) -> Table | None:
        """The values of a published table that the network computes; None of other tensors."""
        return next((self._computed[each] for each in self._spellings(name) if each in self._computed), None)

    def is_fallback(self, name: str) -> bool:
        """Whether a published tensor counts only where there is none of another name."""
        found = self._rule_of(name)
        return found is not None and found[0].fallback

    def value_if_absent(self, name: str) -> float | None:
        """The value of every element of a tensor of ours that a checkpoint lacks; None if it must be there."""
        return next((rule.absent for _, rule in self._named(name)), None)

    def convert_to_theirs(self, tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
        """Our tensors under their published names, one published tensor at a time.

        Raises:
            KeyError: a tensor of ours has no published name (a family's table is incomplete).
            CheckpointError: tensors of ours have other sizes than the parts of their fused tensor.
        """
        written: set[str] = set()
        for name in tensors:
            named = list(self._named(name))
            if not named:
                raise KeyError(name)
            for place, (published, rule) in enumerate(named):
                if published in written or (place > 0 and not rule.copied):
                    continue
                written.add(published)
                names, _ = self.ours(published) or ((name,), rule.transform)
                try:
                    tensor = rule.transform.to_theirs(*(tensors[each] for each in names))
                except CheckpointError as error:
                    error.where = published
                    raise
                yield published, tensor.clone() if place > 0 else tensor  # files hold no two names of one memory

    def _rule_of(self, name: str) -> tuple[WeightRule, re.Match[str]] | None:
        for spelled in self._spellings(name):
            for pattern, rule in self._rules:
                if match := pattern.fullmatch(spelled):
                    return rule, match
        return None

    def _named(self, name: str) -> Iterator[tuple[str, WeightRule]]:
        """The published names of a tensor of ours, with their rules."""
        for pattern, rule in self._ours:
            if match := pattern.fullmatch(name):
                yield _filled(rule.theirs, match), rule

    def _spellings(self, name: str) -> Iterator[str]:
        """A published name as the rules may have it."""
        for old, new in _OLD_NAMES.items():
            name = name.replace(old, new)
        yield name
        if self._prefix:
            yield name.removeprefix(self._prefix) if name.startswith(self._prefix) else self._prefix + name


def _names(rule: WeightRule) -> tuple[str, ...]:
    return (rule.ours,) if isinstance(rule.ours, str) else rule.ours


def _pattern(name: str) -> re.Pattern[str]:
    return re.compile(re.escape(name).replace(r"\{i\}", r"(?P<i>\d+)").replace(r"\*", ".*"))


def _filled(name: str, match: re.Match[str]) -> str:
    return name.replace("{i}", match.groupdict().get("i", ""))
