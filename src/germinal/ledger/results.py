"""Reading `Results` of one run from the tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from germinal.errors import LedgerError, nearest
from germinal.ledger.records import (
    AnswerRecord,
    CandidateRecord,
    ChoiceRecord,
    ComparisonRecord,
    Cost,
    CountsRecord,
    Environment,
    EstimateRecord,
    Figure,
    Figures,
    LimitRecord,
    MetricRecord,
    Results,
    RunRecord,
    SplitRecord,
    Spread,
    StepRecord,
    SuccessRecord,
    TrialRecord,
)
from germinal.ledger.shapes import StepValues, check_config, check_step
from germinal.ledger.tables import (
    CANDIDATE,
    Answer,
    Example,
    Measurement,
    PredictionRow,
    Run,
    RunTrial,
    Step,
    StepPrediction,
    TestLook,
)

# The steps that count as the cost of answering dev; choosing examples and measuring cost next to nothing.
_COSTLY_ROLES = (
    "fit",
    "tune",
    "calibrate",
    "predict/dev",
)
_SPEC = ("kind", "model", "baseline", "shots", "rule", "adapter", "precision")


def find_run(session: Session, run_id: int | None, location: str) -> Run:
    """The run with that id, or the latest finished run over all rows; a trial run (--limit) only if there is no other.

    Raises:
        LedgerError: there is no such run.
    """
    if run_id is not None:
        run = session.get(Run, run_id)
    else:
        finished = select(Run).where(Run.status == "finished")
        run = session.scalar(finished.order_by(Run.limit.is_not(None), Run.id.desc()).limit(1))
    if run is None:
        what = "no run is finished yet." if run_id is None else f"there is no run {run_id}."
        raise LedgerError(what, where=location, hint="Start one with `germinal run`.")
    return run


def find_trial(session: Session, run: Run, trial_id: str) -> RunTrial:
    """A trial of a run.

    Raises:
        LedgerError: the run has no trial of that name.
    """
    trial = session.get(RunTrial, (run.id, trial_id))
    if trial is None:
        known = list(session.scalars(select(RunTrial.trial_id).where(RunTrial.run_id == run.id)))
        raise LedgerError(f"there is no trial '{trial_id}' in run {run.id}.", hint=nearest(trial_id, known))
    return trial


def step_of(session: Session, trial: RunTrial, role: str) -> Step:
    """The step that has a role ("tune", "predict/dev") in a trial.

    Raises:
        LedgerError: the trial has no step in that role.
    """
    if role not in trial.steps:
        what = f"trial '{trial.trial_id}' has no {role} step in run {trial.run_id}."
        hint = "Only the winner and the baselines are measured on test." if role.endswith("/test") else None
        raise LedgerError(what, hint=hint)
    return session.get_one(Step, trial.steps[role])


def results(session: Session, run: Run, location: str) -> Results:
    """Everything that a run found."""

    def step(key: str) -> StepRecord:
        return step_record(session.get_one(Step, key), location)

    trials = list(session.scalars(select(RunTrial).where(RunTrial.run_id == run.id).order_by(RunTrial.position)))
    by_candidate: dict[str, list[RunTrial]] = {}
    for trial in trials:
        by_candidate.setdefault(trial.candidate_id, []).append(trial)
    candidates = [_candidate(session, name, members) for name, members in by_candidate.items()]
    outcome = run.outcome
    choose = step(outcome["choose"]) if outcome.get("choose") else None
    data = step(trials[0].steps["data"]) if trials and "data" in trials[0].steps else None
    return Results(
        run=run_record(run),
        candidates=candidates,
        comparisons=_comparisons(choose, outcome),
        choice=_choice(choose, outcome, by_candidate),
        success=_success(outcome),
        test_looks=test_looks(session),
        detectable_difference=outcome.get("detectable_difference"),
        splits={name: SplitRecord(**split) for name, split in data.values["splits"].items()} if data else {},
        metrics=[MetricRecord(**metric) for metric in outcome.get("metrics", [])],
        limits=[LimitRecord(**limit) for limit in outcome.get("limits", [])],
    )


def _candidate(session: Session, name: str, members: list[RunTrial]) -> CandidateRecord:
    described: dict[str, Any] = {key: members[0].spec.get(key) for key in _SPEC}
    trials = [_trial(session, member) for member in members]
    figures: Figures = {}
    spread: dict[str, Spread] = {}
    work: dict[str, Any] = {}
    for split in ("dev", "test"):
        measured = next(
            (member.steps[f"measure/{split}"] for member in members if f"measure/{split}" in member.steps), None
        )
        if measured:
            figures[split] = _figures(session, measured, CANDIDATE)
            if split == "dev":
                work = session.get_one(Step, measured).values
                spread = {metric: Spread(**value) for metric, value in work.get("spread", {}).items()}
    loaded = members[0].steps.get("model")
    return CandidateRecord(
        id=name,
        **described,
        parameters=work.get("parameters"),
        tokens_per_example=work.get("tokens_per_example", 0.0),
        work=work.get("work", 0.0),
        figures=figures,
        spread=spread,
        trials=trials,
        cost=_sum([trial.cost for trial in trials]),
        cut=work.get("cut"),
        counts=_all([trial.counts["dev"] for trial in trials if "dev" in trial.counts]),
        weights=session.get_one(Step, loaded).values.get("precision") if loaded else None,
    )


def _trial(session: Session, trial: RunTrial) -> TrialRecord:
    figures = {
        split: _figures(session, trial.steps[f"measure/{split}"], 0 if split == "test" else trial.replicate)
        for split in ("dev", "test")
        if f"measure/{split}" in trial.steps
    }
    cost = _cost(session, trial)
    estimate = EstimateRecord(**_with_factors(trial.estimate, cost)) if trial.estimate else None
    return TrialRecord(
        trial.trial_id,
        trial.candidate_id,
        trial.spec.get("shot_seed"),
        trial.position,
        figures,
        cost,
        estimate,
        dict(trial.steps),
        _counts(session, trial),
    )


def _counts(session: Session, trial: RunTrial) -> dict[str, CountsRecord]:
    found = {}
    for split in ("dev", "test"):
        if f"measure/{split}" in trial.steps:
            counts = session.get_one(Step, trial.steps[f"measure/{split}"]).values.get("counts")
            if counts is not None:
                found[split] = CountsRecord(**counts[0 if split == "test" else trial.replicate])
    return found


def _all(counts: list[CountsRecord]) -> CountsRecord | None:
    return sum(counts[1:], counts[0]) if counts else None


def _cost(session: Session, trial: RunTrial) -> Cost:
    steps = {role: session.get_one(Step, trial.steps[role]) for role in _COSTLY_ROLES if role in trial.steps}
    seconds = {step.kind: step.seconds for step in steps.values()}
    peaks = [step.peak_memory_bytes for step in steps.values() if step.peak_memory_bytes is not None]
    tokens = {"prompt_tokens": 0, "generated_tokens": 0, "scored_tokens": 0}
    if "measure/dev" in trial.steps:
        measured = session.get_one(Step, trial.steps["measure/dev"]).values
        tokens |= measured["replicates"][trial.replicate]
    note = next((step.memory_note for step in reversed(steps.values()) if step.memory_note), "")
    return Cost(
        seconds=sum(seconds.values()),
        tokens=sum(tokens.values()),
        **tokens,
        peak_memory_bytes=max(peaks, default=None),
        memory_note=note,
        by_step=seconds,
    )


def _with_factors(estimate: dict[str, Any], cost: Cost) -> dict[str, Any]:
    """An estimate, with the ratios of the measured figures to it."""
    peak, seconds = cost.peak_memory_bytes, cost.seconds
    return {
        **estimate,
        "memory_factor": peak / estimate["memory_bytes"] if peak and estimate["memory_bytes"] else None,
        "seconds_factor": seconds / estimate["seconds"] if seconds and estimate["seconds"] else None,
    }


def _sum(costs: list[Cost]) -> Cost:
    by_step: dict[str, float] = {}
    for cost in costs:
        for kind, seconds in cost.by_step.items():
            by_step[kind] = by_step.get(kind, 0.0) + seconds
    peaks = [cost.peak_memory_bytes for cost in costs if cost.peak_memory_bytes is not None]
    return Cost(
        seconds=sum(cost.seconds for cost in costs),
        tokens=sum(cost.tokens for cost in costs),
        prompt_tokens=sum(cost.prompt_tokens for cost in costs),
        generated_tokens=sum(cost.generated_tokens for cost in costs),
        scored_tokens=sum(cost.scored_tokens for cost in costs),
        peak_memory_bytes=max(peaks, default=None),
        memory_note=costs[0].memory_note,
        by_step=by_step,
    )


def _figures(session: Session, step_key: str, replicate: int) -> dict[str, Figure]:
    return figures(session, step_key).get(replicate, {})


def figures(session: Session, step_key: str) -> dict[int, dict[str, Figure]]:
    """The figures of a measure step, by replicate and metric."""
    found: dict[int, dict[str, Figure]] = {}
    for row in session.scalars(select(Measurement).where(Measurement.step_key == step_key)):
        figure = Figure(row.value, row.low, row.high, row.n, row.method, row.level)
        found.setdefault(row.replicate, {})[row.metric] = figure
    return found


def _comparisons(choose: StepRecord | None, outcome: dict[str, Any]) -> list[ComparisonRecord]:
    # The choose step refers to candidates by their index in the plan, so that renaming one does not rerun it.
    if choose is None:
        return []
    names: list[str] = outcome["candidates"]
    return [
        ComparisonRecord(**{**item, "first": names[item["first"]], "second": names[item["second"]]})
        for item in choose.values.get("comparisons", [])
    ]


def _choice(
    choose: StepRecord | None, outcome: dict[str, Any], by_candidate: dict[str, list[RunTrial]]
) -> ChoiceRecord | None:
    if choose is None:
        return None
    names, values = outcome["candidates"], choose.values
    winner = names[values["winner"]]
    return ChoiceRecord(
        metric=values["metric"],
        best=names[values["best"]],
        tied=[names[index] for index in values["tied"]],
        winner=winner,
        winner_trial=by_candidate[winner][values["winner_replicate"]].trial_id,
        reason=values["reason"],
    )


def _success(outcome: dict[str, Any]) -> list[SuccessRecord]:
    return [
        SuccessRecord(
            item["metric"], item["threshold"], item["verdict"], Figure(**item["figure"]) if item["figure"] else None
        )
        for item in outcome.get("success", [])
    ]


def answers(session: Session, trial: RunTrial, split: str) -> list[AnswerRecord]:
    """The answers of a trial to each row of a split."""
    measure = step_of(session, trial, f"measure/{split}")
    predict = step_of(session, trial, f"predict/{split}")
    replicate = 0 if split == "test" else trial.replicate  # only one replicate of the winner is measured on test
    outputs = _outputs(session, predict.key)
    query = (
        select(Answer, Example)
        .join(Example, Example.row_id == Answer.row_id)
        .where(Answer.step_key == measure.key, Answer.replicate == replicate)
        .order_by(Answer.position)
    )
    return [
        AnswerRecord(
            row_id=answer.row_id,
            position=answer.position,
            input=example.input,
            target=example.target,
            group=example.group,
            answer=answer.answer,
            text=answer.text,
            probabilities=answer.probabilities,
            error=answer.error,
            correct=answer.correct,
            output=outputs.get(answer.row_id),
        )
        for answer, example in session.execute(query)
    ]


def _outputs(session: Session, step_key: str) -> dict[str, dict[str, Any]]:
    """Raw outputs by row: the generated and the scored part, merged."""
    links = list(session.scalars(select(StepPrediction).where(StepPrediction.step_key == step_key)))
    keys = select(StepPrediction.generation_key).where(StepPrediction.step_key == step_key)
    scores = select(StepPrediction.score_key).where(StepPrediction.step_key == step_key)
    query = select(PredictionRow).where(PredictionRow.key.in_(keys) | PredictionRow.key.in_(scores))
    rows = {row.key: row.output for row in session.scalars(query)}
    return {
        link.row_id: {**rows.get(link.score_key or "", {}), **rows.get(link.generation_key or "", {})} for link in links
    }


def stored_answers(session: Session, step_key: str, replicate: int) -> list[dict[str, Any]]:
    """The stored answers of one replicate, each with the row's target and group."""
    query = (
        select(Answer, Example)
        .join(Example, Example.row_id == Answer.row_id)
        .where(Answer.step_key == step_key, Answer.replicate == replicate)
        .order_by(Answer.position)
    )
    return [
        {
            "row_id": answer.row_id,
            "answer": answer.answer,
            "probabilities": answer.probabilities,
            "target": example.target,
            "group": example.group,
        }
        for answer, example in session.execute(query)
    ]


def test_looks(session: Session) -> int:
    """Number of runs that measured something new on test."""
    return session.scalar(select(func.count(TestLook.run_id.distinct()))) or 0


def run_record(run: Run) -> RunRecord:
    """A run as a plain record; a ValueError if its config is no project's."""
    check_config(run.config)
    return RunRecord(
        id=run.id,
        started_at=run.started_at,
        finished_at=run.finished_at,
        status=run.status,
        limit=run.limit,
        overrides=list(run.overrides),
        config=dict(run.config),
        environment=Environment(**run.environment),
    )


def step_record(step: Step, location: str) -> StepRecord:
    """A step as a plain record.

    Raises:
        ValueError: its values are not those of a step of its kind.
    """
    check_step(step.kind, step.values)
    return StepRecord(
        key=step.key,
        recipe_key=step.recipe_key,
        kind=step.kind,
        name=step.name,
        status=step.status,
        parts=dict(step.parts),
        recipe_parts=dict(step.recipe_parts),
        outputs=dict(step.outputs),
        values=StepValues(step.values, step.name, location),
        artifact=Path(step.artifact) if step.artifact else None,
        seconds=step.seconds,
        peak_memory_bytes=step.peak_memory_bytes,
        memory_note=step.memory_note,
        environment=Environment(**step.environment),
        started_at=step.started_at,
        finished_at=step.finished_at,
        error=step.error,
    )
