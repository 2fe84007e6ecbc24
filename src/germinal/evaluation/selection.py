"""Which candidates are not significantly worse than the best, and which of them takes the least work.

The best is chosen on the same rows, so tests against it are exploratory and slightly biased in its favour. Holm's
correction over them excludes a candidate from the tied set only on strong evidence, which is the safer error when the
cheapest of the set is proposed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from germinal.evaluation.evaluator import Candidate, Comparison, compare
from germinal.evaluation.intervals import DRAWS
from germinal.evaluation.metrics import metric_named
from germinal.evaluation.significance import holm


@dataclass(frozen=True, slots=True)
class Choice:
    """The outcome of a selection.

    Attributes:
        best: The candidate with the best value on dev.
        tied: The best and all that do not differ significantly from it, best value first.
        proposed: The tied candidate that takes the least work.
        against_best: Comparison of the best with each other candidate (best minus candidate).
        adjusted: Exploratory p-values of these comparisons after Holm's correction.
    """

    best: str
    tied: tuple[str, ...]
    proposed: str
    against_best: Mapping[str, Comparison]
    adjusted: Mapping[str, float]


def choose(
    metric: str,
    candidates: Mapping[str, Candidate],
    work: Mapping[str, float],
    *,
    level: float = 0.95,
    draws: int = DRAWS,
    seed: int = 0,
) -> Choice:
    """Choose among candidates measured on the same rows.

    Args:
        metric: The metric that decides; every candidate must have a value of it.
        work: Tokens x parameters of each candidate, or any other cost of which less is better.
    """
    measured = metric_named(metric)
    sign = 1.0 if measured.higher_is_better else -1.0
    values = {
        name: sign * sum(measured.point(sample) for sample in candidate) / len(candidate)
        for name, candidate in candidates.items()
    }
    # Ties in value go to the candidate of less work; names make the order deterministic.
    ranked = sorted(candidates, key=lambda name: (-values[name], work[name], name))
    best = ranked[0]
    against_best = {
        name: compare(metric, candidates[best], candidates[name], level=level, draws=draws, seed=seed)
        for name in ranked[1:]
    }
    adjusted = holm({name: comparison.p_value for name, comparison in against_best.items()})
    tied = (best, *(name for name in ranked[1:] if adjusted[name] > 1 - level))
    proposed = min(tied, key=lambda name: (work[name], ranked.index(name)))
    return Choice(best, tied, proposed, against_best, adjusted)
