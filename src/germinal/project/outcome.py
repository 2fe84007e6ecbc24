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
from germinal.project.wiring import Wiring


def outcome(
    wiring: Wiring, ledger: Ledger, data: StepRecord, choose: StepRecord, measured: StepRecord
) -> dict[str, Any]:
    """The outcome of a run, as the ledger keeps it.

    Args:
        measured: The winner's measure step on test.
    """
    scope = wiring.config.scope
    figures = ledger.measurements(measured.key).get(CANDIDATE, {})
    rows = data.values["splits"]["dev"]["rows"]
    return {
        "choose": choose.key,
        "candidates": [candidate.id for candidate in wiring.candidates],
        "detectable_difference": detectable_difference(rows, comparisons=max(1, len(wiring.comparisons))).difference,
        "metrics": [{"name": name, "higher_is_better": METRICS[name].higher_is_better} for name in scope.metrics],
        "success": [_judged(name, required, figures.get(name)) for name, required in scope.success.items()],
    }


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
