"""The charts of the report, each with a sentence that says how to read it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from germinal import figures
from germinal.evaluation.metrics import METRICS
from germinal.ledger import AnswerRecord, Ledger, Results
from germinal.project.board import formats
from germinal.project.board.comparison import text_sample
from germinal.project.board.leaderboard import Leaderboard, Row
from germinal.project.board.report_examples import MOST_EXAMPLES

_WIDTH = 340  # pixels of a plotting area: two charts fit side by side on a laptop
MANY_LABELS = 20  # a confusion matrix of more labels cannot be read


@dataclass(frozen=True, slots=True)
class Drawing:
    """A chart as inline SVG, its title, and how to read it."""

    title: str
    caption: str
    svg: Markup


def drawings(board: Leaderboard, results: Results, ledger: Ledger) -> dict[str, list[Drawing]]:
    """The charts by section of the report; a section without data has none."""
    return {
        "certainty": [*_intervals(board), *_spread(board, results), *_rows(board, results, ledger)],
        "cost": [*_against_time(board), *_against_memory(board)],
        "winner": _winner(board, results, ledger),
        "tuning": _tuning(results, ledger),
    }


def _drawing(title: str, caption: str, chart: Any) -> Drawing:
    # Vega escapes all text that it draws, and to_svg escapes title and caption: the SVG is safe.
    return Drawing(title, caption, Markup(figures.to_svg(chart, title=title, description=caption, inline=True)))


def _intervals(board: Leaderboard) -> list[Drawing]:
    metric = board.primary
    estimates = [
        figures.Estimate(row.label, row.kind, figure.value, figure.low, figure.high, row.tied or row.winner)
        for row in board.rows
        if (figure := row.dev.get(metric)) and figure.low is not None and figure.high is not None
    ]
    if not estimates:
        return []
    baselines = [estimate.value for estimate in estimates if estimate.kind == "baseline"]
    best = max if board.metrics[0].higher_is_better else min
    criterion = next((record.threshold for record in board.success if record.metric == metric), None)
    chart = figures.intervals(
        estimates,
        metric=f"{metric} on dev",
        criterion=criterion,
        reference=best(baselines, default=None),
        width=_WIDTH,
    )
    caption = (
        f"{metric} on dev with its 95% interval. Filled marks cannot be told apart from the best. Whether two "
        "candidates differ is for the paired tests to say: their intervals may overlap and they still differ."
    )
    return [_drawing("How good, and how sure", caption, chart)]


def _spread(board: Leaderboard, results: Results) -> list[Drawing]:
    replicates = [
        figures.Replicate(row.label, trial.shot_seed or 0, figure.value)
        for row in board.rows
        if row.replicates > 1
        for trial in results.candidate(row.id).trials
        if (figure := trial.figures.get("dev", {}).get(board.primary))
    ]
    if not replicates:
        return []
    caption = (
        "One dot for each choice of few-shot examples, a tick for their mean. Where the dots lie far apart, the result "
        "depends on the choice."
    )
    return [
        _drawing(
            "Spread over the choice of shots",
            caption,
            figures.spread(replicates, metric=f"{board.primary} on dev", width=_WIDTH),
        )
    ]


def _rows(board: Leaderboard, results: Results, ledger: Ledger) -> list[Drawing]:
    """For texts, how the deciding metric varies from row to row, over all replicates of a candidate."""
    if board.answers != "text":
        return []
    metric = METRICS[board.primary]
    candidates = []
    for row in board.rows:
        values: list[float] = []
        for trial in results.candidate(row.id).trials:
            if trial.figures.get("dev"):
                answers = ledger.answers(trial.id, run_id=results.run.id)
                values += metric.of_rows(text_sample(answers)).tolist()
        if values:
            candidates.append(figures.RowValues(row.label, row.kind, values))
    if not candidates or metric.is_proportion:
        return []
    caption = (
        f"{metric.name} of each dev example by itself: half of them lie in the bar and nine in ten on the line; the "
        "tick is the median."
    )
    digits = formats.digits(metric.name)
    chart = figures.row_values(candidates, metric=f"{metric.name} of an example", digits=digits, width=_WIDTH)
    return [_drawing("From example to example", caption, chart)]


def _against_time(board: Leaderboard) -> list[Drawing]:
    caption = (
        "Seconds to answer dev once, tuning and calibration included; mean over replicates. The dashed line joins the "
        "candidates that no cheaper one beats."
    )
    return _against(board, "Quality against time", "time for dev", "s", caption, _seconds)


def _against_memory(board: Leaderboard) -> list[Drawing]:
    caption = (
        "Peak memory of the process that ran the trial. The dashed line joins the candidates that no smaller one beats."
    )
    return _against(board, "Quality against memory", "peak memory", "MiB", caption, _mebibytes)


def _seconds(board: Leaderboard, row: Row) -> float | None:
    return board.timings[row.id].seconds / row.replicates


def _mebibytes(board: Leaderboard, row: Row) -> float | None:
    peak = board.timings[row.id].peak_memory_bytes
    return None if peak is None else peak / 2**20


def _against(
    board: Leaderboard,
    title: str,
    cost: str,
    unit: str,
    caption: str,
    cost_of: Callable[[Leaderboard, Row], float | None],
) -> list[Drawing]:
    outcomes = []
    for row in board.rows:
        figure, spent = row.dev.get(board.primary), cost_of(board, row)
        if figure is not None and figure.low is not None and figure.high is not None and spent is not None:
            outcomes.append(figures.Outcome(row.label, row.kind, figure.value, figure.low, figure.high, spent))
    if len(outcomes) < 2 or not board.metrics[0].higher_is_better:
        return []
    chart = figures.tradeoff(outcomes, metric=f"{board.primary} on dev", cost=cost, unit=unit, width=_WIDTH + 60)
    return [_drawing(title, caption, chart)]


def _winner(board: Leaderboard, results: Results, ledger: Ledger) -> list[Drawing]:
    """The winner on test, or on dev if it was not tested: confusion and reliability, or the lengths of its texts."""
    if results.choice is None or board.winner is None:
        return []
    split = "test" if board.winner.test else "dev"
    answers = ledger.answers(results.choice.winner_trial, split=split, run_id=results.run.id)
    if board.answers == "text":
        return _lengths(answers, split)
    drawn = []
    labels = sorted({label for record in results.splits.values() for label in record.labels})
    targets = {answer.target for answer in answers}
    if targets and len(labels) <= MANY_LABELS and targets <= set(labels):
        pairs = [(answer.target, answer.answer if answer.answer in labels else None) for answer in answers]
        chart = figures.confusion(pairs, labels=labels, cell=max(40, min(104, 480 // len(labels))))
        caption = f"The winner's answers to the {len(answers):,} examples of {split}, with the share of each target."
        drawn.append(_drawing(f"Confusion matrix, on {split}", caption, chart))
    return drawn + _reliability(answers, split)


def _lengths(answers: Sequence[AnswerRecord], split: str) -> list[Drawing]:
    pairs = [(len(answer.target), len(answer.answer or "")) for answer in answers[:MOST_EXAMPLES]]
    if not pairs:
        return []
    caption = (
        "The length of each answer against that of its reference; on the dashed line they are equal. Answers far above "
        "it say too much, answers below it leave something out."
    )
    return [_drawing(f"How long its texts are, on {split}", caption, figures.lengths(pairs))]


def _reliability(answers: Sequence[AnswerRecord], split: str) -> list[Drawing]:
    sure = [(max(answer.probabilities.values()), answer.correct) for answer in answers if answer.probabilities]
    if not sure:
        return []
    found = figures.bins([confidence for confidence, _ in sure], [correct for _, correct in sure])
    caption = (
        "How often answers of each confidence were right; a dot's area is their number. On the dashed line the model "
        "is right as often as it claims; below it, it is surer than it should be."
    )
    return [_drawing(f"Can its probabilities be believed, on {split}", caption, figures.reliability(found))]


def _tuning(results: Results, ledger: Ledger) -> list[Drawing]:
    """One loss curve for each adapter or head that was tuned."""
    prompted = {trial.id for found in results.candidates if found.rule is not None for trial in found.trials}
    drawn: dict[str, Drawing] = {}
    for trial in results.trials:
        key = trial.steps.get("tune")
        if key is None or key in drawn:
            continue
        points = _loss_points(ledger.history(trial.id, run_id=results.run.id))
        if points:
            step = ledger.step(key)
            best = step.values.get("best_step")
            chart = figures.loss_curve(points, best_step=best if isinstance(best, int) else None, width=_WIDTH + 60)
            of_what = "The loss on the answers alone." if trial.id in prompted else "The loss of the labels."
            caption = f"{of_what} The held-out part is taken from the training split, never from dev or test."
            drawn[key] = _drawing(f"Loss: {step.name}", caption, chart)
    return list(drawn.values())


def _loss_points(history: Sequence[dict[str, Any]]) -> list[figures.LossPoint]:
    points = []
    for entry in history:
        for key, held_out in (("loss", False), ("validation_loss", True)):
            if entry.get(key) is not None:
                points.append(figures.LossPoint(int(entry["step"]), float(entry[key]), held_out))
    return points
