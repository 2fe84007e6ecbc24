"""Which stored tensor becomes which of ours: the match of a file's names with those that a network needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from germinal.checkpoints.stored import Stored
from germinal.errors import CheckpointError, listed
from germinal.models.config import TransformerConfig
from germinal.models.heads import VOCABULARY_HEADS
from germinal.models.weight_rules import Transform, WeightRules

HEAD, EMBEDDING = "lm_head.weight", "embed_tokens.weight"


@dataclass(frozen=True, slots=True)
class Source:
    """Where tensors of ours come from.

    Attributes:
        names: Ours.
        transform: From the published tensor to ours.
        theirs: The published tensor that is read.
        copies: Others that must hold the same values.
    """

    names: tuple[str, ...]
    transform: Transform
    theirs: str
    copies: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class WeightPlan:
    """The match.

    Attributes:
        sources: One for each of our tensors, or several of ours that are one published tensor.
        absent: Ours that a file may lack -> the value of all their elements.
        missing: The published names of what a file must have and lacks.
        extra: What it has and no network of the config uses.
    """

    sources: tuple[Source, ...]
    absent: Mapping[str, float]
    missing: tuple[str, ...]
    extra: tuple[str, ...]

    @property
    def used(self) -> frozenset[str]:
        """The published tensors that are read."""
        return frozenset(source.theirs for source in self.sources)


def plan_weights(
    stored: Mapping[str, Stored], rules: WeightRules, config: TransformerConfig, expected: Mapping[str, object]
) -> WeightPlan:
    """Match the names of a file with those that a config's network needs; no value is read.

    Args:
        stored: The tensors of the file.
        rules: From published names to ours.
        config: The network's config.
        expected: Our names.
    """
    found: dict[tuple[str, ...], list[str]] = {}
    transforms: dict[str, Transform] = {}
    left: list[str] = []
    for theirs in stored:
        match = rules.ours(theirs)
        names = None if match is None else _tied(match[0], config)
        if match is None or names is None or not expected.keys() >= set(names):
            left.append(theirs)
        else:
            found.setdefault(names, []).append(theirs)
            transforms[theirs] = match[1]
    sources: list[Source] = []
    planned: set[str] = set()
    for names, candidates in found.items():
        if not planned.isdisjoint(names):  # ours would come from a fused tensor and from its parts
            left += candidates
            continue
        planned.update(names)
        first, *others = sorted(candidates, key=lambda theirs: _rank(theirs, names, rules, config))
        copies = tuple(theirs for theirs in others if not _is_fallback(theirs, rules, config))
        sources.append(Source(names, transforms[first], first, copies))
    lacking = [name for name in expected if name not in planned]
    absent = {name: value for name in lacking if (value := rules.value_if_absent(name)) is not None}
    missing = dict.fromkeys(published_name(rules, name) for name in lacking if name not in absent)
    modules = {_module(source.theirs) for source in sources}
    # A head that is not used is left out whole: a bias beside a matrix that is used belongs to another model.
    extra = tuple(theirs for theirs in left if not _left_out(theirs, rules) or _module(theirs) in modules)
    return WeightPlan(tuple(sources), absent, tuple(missing), extra)


def check_copies(stored: Mapping[str, Stored], plan: WeightPlan, rules: WeightRules, where: str) -> None:
    """Refuse tensors that are one by the config and the rules, and hold different values.

    Raises:
        CheckpointError: names both.
    """
    for source in plan.sources:
        for copy in source.copies:
            if not equal_values(stored[source.theirs], stored[copy]):
                tied = (HEAD,) in (_names(rules, source.theirs), _names(rules, copy))
                raise CheckpointError(
                    f"'{source.theirs}' and '{copy}' are one tensor of the model, but hold different values.",
                    where=where,
                    hint="If both are right, set tie_word_embeddings to false in config.json; if not, remove one."
                    if tied
                    else "Remove the one that is wrong; a model that has both is not supported.",
                )


def check_computed(stored: Mapping[str, Stored], rules: WeightRules, where: str) -> None:
    """Refuse a stored table that is not the one which the network computes.

    Raises:
        CheckpointError: names it.
    """
    for theirs, tensor in stored.items():
        table = rules.computed(theirs)
        if table is None:
            continue
        expected = table(tensor.shape)
        # Published tables were computed in several ways, and may be stored in half precision.
        if expected is None or not torch.allclose(tensor.load(torch.float32), expected, atol=1e-2):
            raise CheckpointError(
                f"'{theirs}' is not the table that the family's models compute.",
                where=where,
                hint="Models with another table are not supported.",
            )


def equal_values(first: Stored, second: Stored) -> bool:
    """Whether two tensors have the same shape and values."""
    if first.shape != second.shape:
        return False
    dtype = getattr(torch, first.precision, torch.float32) if first.precision == second.precision else torch.float32
    return torch.equal(first.load(dtype), second.load(dtype))


def published_name(rules: WeightRules, ours: str) -> str:
    """The published name of a tensor of ours, or ours where it has none."""
    found = rules.theirs(ours)
    return found[0] if found else ours


def _tied(names: tuple[str, ...], config: TransformerConfig) -> tuple[str, ...]:
    return (EMBEDDING,) if names == (HEAD,) and config.tie_embeddings else names


def _is_fallback(theirs: str, rules: WeightRules, config: TransformerConfig) -> bool:
    """Whether it counts only where there is nothing else, as does the matrix of a head that the network lacks."""
    if config.tie_embeddings and config.head not in VOCABULARY_HEADS:
        return rules.is_fallback(theirs) or _names(rules, theirs) == (HEAD,)
    return rules.is_fallback(theirs)


def _rank(theirs: str, names: tuple[str, ...], rules: WeightRules, config: TransformerConfig) -> tuple[bool, bool]:
    """The smallest is read: of a name that is no fallback, and the one that the family writes."""
    return _is_fallback(theirs, rules, config), theirs != published_name(rules, names[0])


def _names(rules: WeightRules, theirs: str) -> tuple[str, ...] | None:
    found = rules.ours(theirs)
    return None if found is None else found[0]


def _left_out(theirs: str, rules: WeightRules) -> bool:
    return rules.ignores(theirs) or rules.computed(theirs) is not None


def _module(name: str) -> str:
    return name.rpartition(".")[0]


def refuse_mismatch(plan: WeightPlan, misshapen: list[str], where: str, hint: str) -> None:
    """Refuse a file that is not that of the network.

    Raises:
        CheckpointError: lists what is missing, extra and of another shape.
    """
    groups = (("missing", plan.missing), ("not part of the model", plan.extra), ("of another shape", misshapen))
    if parts := [f"{label}: {listed(names)}" for label, names in groups if names]:
        raise CheckpointError(f"the weights do not match the config; {'; '.join(parts)}.", where=where, hint=hint)
