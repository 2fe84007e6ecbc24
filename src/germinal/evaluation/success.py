"""Whether the success criterion of the scope was reached, taking the interval of the estimate into account."""

from __future__ import annotations

from enum import StrEnum

from germinal.evaluation.evaluator import Estimate
from germinal.evaluation.metric import Metric

FEWEST_GROUPS = 5
"""With fewer groups of rows on test nothing counts as reached, whatever the interval: it rests on how groups differ."""


class Verdict(StrEnum):
    """REACHED: the whole interval passes. NOT_SHOWN: only the estimate passes. MISSED: the estimate does not pass."""

    REACHED = "reached"
    NOT_SHOWN = "not shown"
    MISSED = "missed"


def too_few_groups(rows: int, units: int | None) -> bool:
    """Whether rows are of so few groups that nothing counts as reached; `units` is None if no two rows share one."""
    return units is not None and units < min(rows, FEWEST_GROUPS)


def judge(required: float, estimate: Estimate, metric: Metric) -> Verdict:
    """Compare an estimate from the test split with the required value: a maximum if less is better, else a minimum.

    Without an interval, or with rows of fewer than `FEWEST_GROUPS` groups, a value that passes is not shown to.
    """
    sign = 1.0 if metric.higher_is_better else -1.0
    worst = estimate.low if metric.higher_is_better else estimate.high
    few = too_few_groups(estimate.n, estimate.units)
    if worst is not None and sign * worst >= sign * required and not few:
        return Verdict.REACHED
    return Verdict.NOT_SHOWN if sign * estimate.value >= sign * required else Verdict.MISSED
