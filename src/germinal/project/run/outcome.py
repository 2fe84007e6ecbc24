"""What the ledger keeps of a run beside its steps: its trials, what dev can show, limits and success."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from germinal.evaluation.evaluator import Estimate
from germinal.evaluation.metrics import METRICS
from germinal.evaluation.success import judge
from germinal.ledger import EstimateRecord, Ledger, StepRecord
from germinal.ledger.records import Figure
from germinal.ledger.tables import CANDIDATE
from germinal.project.file.config import Limits
from germinal.project.plan.step_graph import StepGraph
from germinal.project.plan.trials import Trial
from germinal.project.steps.keys import RecipeKeys


def trial_rows(
    graph: StepGraph,
    tested: Sequence[Trial],
    known: Mapping[str, str],
    recipes: RecipeKeys,
    estimates: Mapping[str, EstimateRecord],
) -> list[dict[str, Any]]:
    """The trials of a run as the ledger keeps them.

    Args:
        tested: The trials that are measured on test too.
        known: Recipe key -> resolved key of the steps that are done.
        recipes: The steps' recipe keys.
        estimates: By trial, where there are any.
    """
    replicate = {trial.id: place for item in graph.candidates for place, trial in enumerate(item.trials)}
    rows: list[dict[str, Any]] = []
    for position, trial in enumerate(graph.trials):
        steps = graph.steps(trial, "dev") | (graph.steps(trial, "test") if trial in tested else {})
        by_role = {role: recipes.key(step) for role, step in steps.items()}
        estimate = estimates.get(trial.id)
        rows.append(
            {
                "trial_id": trial.id,
                "candidate_id": trial.candidate,
                "position": position,
                "replicate": replicate[trial.id],
                "spec": trial.spec(),
                "steps": {role: known[recipe] for role, recipe in by_role.items() if recipe in known},
                "estimate": asdict(estimate) if estimate else None,
            }
        )
    return rows


def outcome(
    graph: StepGraph,
    ledger: Ledger,
    data: StepRecord,
    choose: StepRecord,
    measured: StepRecord,
    clocked: StepRecord | None,
) -> dict[str, Any]:
    """The outcome of a run, as the ledger keeps it.

    Args:
        data: The data step; `choose` is the choose step.
        measured: The winner's measure step on test.
        clocked: The clock step, where [scope] has limits.
    """
    scope = graph.config.scope
    figures = ledger.measurements(measured.key).get(CANDIDATE, {})
    units = {name: split["units"] for name, split in data.values["splits"].items()}
    return {
        "choose": choose.key,
        "candidates": [candidate.id for candidate in graph.candidates],
        "detectable_difference": graph.detectable(units["dev"]),
        "metrics": [{"name": name, "higher_is_better": METRICS[name].higher_is_better} for name in scope.metrics],
        "limits": _limits(scope.limits, clocked),
        "success": [
            _judged(name, required, figures.get(name), units["test"]) for name, required in scope.success.items()
        ],
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


def _judged(metric: str, required: float, figure: Figure | None, units: int) -> dict[str, Any]:
    if figure is None:  # the metric needs probabilities, which the winner's rule does not give
        return {"metric": metric, "threshold": required, "verdict": "missed", "figure": None}
    estimate = Estimate(
        metric,
        figure.value,
        figure.low,
        figure.high,
        figure.level,
        figure.n,
        figure.method,
        (figure.value,),
        None,
        units,
    )
    verdict = judge(required, estimate, METRICS[metric])
    return {"metric": metric, "threshold": required, "verdict": str(verdict), "figure": asdict(figure)}
