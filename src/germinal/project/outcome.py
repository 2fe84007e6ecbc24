"""What a run comes to, beside its figures: names of candidates, what dev can tell, and whether it is a success."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from germinal.evaluation.evaluator import Estimate
from germinal.evaluation.metrics import METRICS
from germinal.evaluation.power import detectable_difference
from germinal.evaluation.success import judge
from germinal.ledger import Ledger, StepRecord
from germinal.ledger.records import Figure
from germinal.ledger.tables import CANDIDATE
from germinal.project.config import Limits
from germinal.project.wiring import Wiring


def outcome(
    wiring: Wiring,
    ledger: Ledger,
    data: StepRecord,
    choose: StepRecord,
    measured: StepRecord,
    clocked: StepRecord | None,
) -> dict[str, Any]:
    """The outcome of a run, as the ledger keeps it.

    Args:
        measured: The winner's measure step on test.
        clocked: How long its answers take, where that is asked for.
    """
    scope = wiring.config.scope
    figures = ledger.measurements(measured.key).get(CANDIDATE, {})
    rows = data.values["splits"]["dev"]["rows"]
    return {
        "choose": choose.key,
        "candidates": [candidate.id for candidate in wiring.candidates],
        "detectable_difference": detectable_difference(rows, comparisons=max(1, len(wiring.comparisons))).difference,
        "metrics": [{"name": name, "higher_is_better": METRICS[name].higher_is_better} for name in scope.metrics],
        "limits": _limits(scope.limits, clocked),
        "success": [_judged(name, required, figures.get(name)) for name, required in scope.success.items()],
    }


def _limits(limits: Limits, clocked: StepRecord | None) -> list[dict[str, Any]]:
    if clocked is None:
        return []
    peak = clocked.peak_memory_bytes
    measured = {"memory_gb": None if peak is None else peak / 1e9, "latency_ms": clocked.values["latency_ms"]}
    asked = {name: limit for name, limit in limits.model_dump().items() if limit is not None}
    return [
        {
            "name": name,
            "limit": float(limit),
            "measured": measured[name],
            "kept": None if measured[name] is None else measured[name] <= limit,
        }
        for name, limit in asked.items()
    ]


def _judged(metric: str, required: float, figure: Figure | None) -> dict[str, Any]:
    if figure is None:  # the winner's rule gives no probabilities, which this metric needs
        return {"metric": metric, "threshold": required, "verdict": "missed", "figure": None}
    assert figure.low is not None
    assert figure.high is not None
    estimate = Estimate(
        metric, figure.value, figure.low, figure.high, figure.level, figure.n, figure.method, (figure.value,), None
    )
    verdict = judge(required, estimate, METRICS[metric])
    return {"metric": metric, "threshold": required, "verdict": str(verdict), "figure": asdict(figure)}
