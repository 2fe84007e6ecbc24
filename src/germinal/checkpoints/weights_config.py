"""What of a config the weights tell: the head where config.json names no class, the pooler, and in some families
whether the output matrix is tied.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from germinal.checkpoints.assembly import read_config
from germinal.checkpoints.expected_weights import check_sizes, expected_shapes
from germinal.checkpoints.stored import Stored
from germinal.checkpoints.weight_plan import EMBEDDING, HEAD, equal_values, plan_weights
from germinal.errors import CheckpointError, GerminalError
from germinal.models.config import TransformerConfig
from germinal.models.families import Family
from germinal.models.families.published_heads import CLASSES
from germinal.models.heads import VOCABULARY_HEADS
from germinal.models.weight_rules import WeightRules


def config_for_weights(
    published: Mapping[str, Any], family: Family, stored: Mapping[str, Stored], where: str
) -> TransformerConfig:
    """The config of a folder, from its config.json and, for what that does not say, its weights.

    Raises:
        CheckpointError: a value of config.json has the wrong type or is impossible, or the weights have the heads of
            several classes, of which config.json names none.
    """
    if not published.get("architectures"):
        published = _with_class(published, family, stored, where)
    return follow_weights(read_config(lambda: family.config_from_hf(published)), family, stored)


def follow_weights(config: TransformerConfig, family: Family, stored: Mapping[str, Stored]) -> TransformerConfig:
    """The config with what the weights tell: a model without the pooler's weights has no pooler; in families that say
    so, the output matrix is tied if there is none with other values than the embedding.
    """
    rules = family.hf_rules(config)
    if config.head == "pooler" and not any(_becomes(rules, theirs).startswith("head.") for theirs in stored):
        config = replace(config, head=None)
    if family.ties_by_weights:
        config = replace(config, tie_embeddings=not _has_own_head(stored, rules))
    return config


def _has_own_head(stored: Mapping[str, Stored], rules: WeightRules) -> bool:
    """Whether there is an output matrix that differs from the embedding."""
    head, embedding = (
        next((tensor for theirs, tensor in stored.items() if _becomes(rules, theirs) == ours), None)
        for ours in (HEAD, EMBEDDING)
    )
    return head is not None and embedding is not None and not equal_values(head, embedding)


def _becomes(rules: WeightRules, theirs: str) -> str:
    found = rules.ours(theirs)
    return found[0][0] if found else ""


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A class that the weights may be of.

    Attributes:
        ending: Of its name.
        config: The config with its head.
        used: The tensors that it uses.
    """

    ending: str
    config: TransformerConfig
    used: frozenset[str]


def _with_class(
    published: Mapping[str, Any], family: Family, stored: Mapping[str, Stored], where: str
) -> Mapping[str, Any]:
    """config.json with the class whose weights are stored; as it is if they are of none."""
    fitting: list[_Candidate] = []
    for ending in CLASSES:
        found = _candidate(ending, published, family, stored, where)
        if found is not None and all(found.config != each.config for each in fitting):
            fitting.append(found)
    labelled = [each for each in fitting if each.config.num_labels]
    writing = [each for each in fitting if each.config.head in VOCABULARY_HEADS]
    rivals = labelled + [each for each in writing if labelled and not each.used <= labelled[0].used]
    if len(rivals) > 1:
        known = next((ending for ending in CLASSES if family.architecture.endswith(ending)), "")
        names = [family.architecture.removesuffix(known) + each.ending for each in rivals]
        raise CheckpointError(
            f"config.json names no class, and the weights may be those of {' or '.join(names)}.",
            where=where,
            hint=f'Add the class to config.json, as in "architectures": ["{names[0]}"].',
        )
    chosen = next(iter([*labelled, *writing, *fitting]), None)
    return published if chosen is None else {**published, "architectures": [chosen.ending]}


def _candidate(
    ending: str, published: Mapping[str, Any], family: Family, stored: Mapping[str, Stored], where: str
) -> _Candidate | None:
    """The class, if all that it needs is stored and nothing else."""
    try:
        config = family.config_from_hf({**published, "architectures": [ending]})
        config = follow_weights(config, family, stored)
        check_sizes(config, stored, where)
        plan = plan_weights(stored, family.hf_rules(config), config, expected_shapes(config))
    except (GerminalError, TypeError, ValueError, LookupError, AttributeError, ArithmeticError):
        return None  # what is wrong is told when the config is read as it stands
    return None if plan.missing or plan.extra else _Candidate(ending, config, plan.used)
