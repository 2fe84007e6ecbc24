"""Was the success criterion of the scope reached? Said plainly, and with the interval in mind."""

from __future__ import annotations

from enum import StrEnum

from germinal.evaluation.evaluator import Estimate
from germinal.evaluation.metric import Metric


class Verdict(StrEnum):
    """REACHED: the whole interval passes. NOT_SHOWN: the estimate passes, its interval does not. MISSED: neither."""

    REACHED = "reached"
    NOT_SHOWN = "not shown"
    MISSED = "missed"


def judge(required: float, estimate: Estimate, metric: Metric) -> Verdict:
    """Set an estimate, from the test split, against what was required; "at most" for metrics where less is better."""
    sign = 1.0 if metric.higher_is_better else -1.0
    worst = estimate.low if metric.higher_is_better else estimate.high
    if sign * worst >= sign * required:
        return Verdict.REACHED
    return Verdict.NOT_SHOWN if sign * estimate.value >= sign * required else Verdict.MISSED
