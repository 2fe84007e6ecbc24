"""Which candidates cannot be told apart from the best, and which of them takes the least work.

The best was chosen by looking at the same rows, so tests against it are exploratory: they flatter it a little. Holm's
correction over them makes it hard to leave the tied set, which is the side to err on when the cheapest of the set is
what gets proposed.
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
        tied: All that cannot be told apart from it, the best included, best value first.
        proposed: The one of least work among the tied.
        against_best: Each other candidate's comparison with the best (best minus candidate).
        adjusted: Its p-value after Holm's correction; exploratory.
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
        metric: The metric that decides; candidates that have no such figure must not be given.
        work: Tokens x parameters of each candidate, or any other figure of which less is better.
    """
    measured = metric_named(metric)
    sign = 1.0 if measured.higher_is_better else -1.0
    values = {
        name: sign * sum(measured.point(sample) for sample in candidate) / len(candidate)
        for name, candidate in candidates.items()
    }
    # Of equal values the one of less work is the best; names only make the order certain.
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
