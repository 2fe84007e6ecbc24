"""A leaderboard's conclusions as sentences, the same on the terminal and in the report."""

from __future__ import annotations

from germinal.evaluation.metrics import METRICS
from germinal.evaluation.success import FEWEST_GROUPS, too_few_groups
from germinal.ledger import LimitRecord, Results, SuccessRecord
from germinal.project.board.formats import difference, digits, examples, interval, p_stated, value
from germinal.project.board.leaderboard import Leaderboard

_LIMITS = {"memory_gb": ("peak memory", "GB"), "latency_ms": ("the time of one answer", "ms")}


def answering(results: Results, trial: str | None = None) -> str:
    """Which run and trial new inputs are answered by, the winner unless `trial` is another.

    Raises:
        LedgerError: the run has no such trial.
    """
    run, chosen = results.run, results.choice.winner_trial if results.choice else None
    who = chosen if trial is None else results.trial(trial).id
    role = "the winner" if who == chosen else f"not the winner, which is {chosen}"
    limited = "" if run.limit is None else f", a trial run on the first {run.limit} rows of dev and of test (--limit)"
    changed = f", with {', '.join(run.overrides)}" if run.overrides else ""
    weights = results.candidate(results.trial(who).candidate).weights if who else None
    in_what = f" in {weights}" if weights else ""
    return f"{who}, {role} of run {run.id}{limited}{changed}, answers{in_what}."


def weights(board: Leaderboard) -> str | None:
    """What the models compute with, where a file holds it otherwise: figures are those of the rounded weights."""
    models: dict[str, list[str]] = {}
    for row in board.rows:
        if row.model and row.weights and row.model not in models.setdefault(row.weights, []):
            models[row.weights].append(row.model)
    if not any("(from " in weights for weights in models):
        return None
    said = [f"{', '.join(of)} in {weights}" for weights, of in models.items()]
    return f"Weights: {'; '.join(said)}."


def success(record: SuccessRecord, board: Leaderboard) -> str:
    """A sentence on a success criterion."""
    metric = next((metric for metric in board.metrics if metric.name == record.metric), board.metrics[0])
    wanted = f"{record.metric} of at {'least' if metric.higher_is_better else 'most'} {record.threshold:g} on test"
    verdict = record.verdict.capitalize() + (" in a trial run" if board.is_trial_run else "")
    if board.winner is not None and not board.winner.answered:
        verdict = "Not judged, as most answers cannot count"
    if record.figure is None:
        return f"{verdict}: {wanted}."
    figure, shown = record.figure, digits(record.metric)
    ends = f"95% interval {interval(figure, shown)}" if figure.low is not None else "no interval can be given"
    measured = f"measured {value(figure.value, shown)}, {ends}"
    return f"{verdict}: {wanted}; {measured}{_few_groups(board)}."


def _few_groups(board: Leaderboard) -> str:
    """Why test allows no other verdict, where it has too few groups."""
    test = board.splits.get("test")
    if test is None or not too_few_groups(test.rows, test.units):
        return ""
    return f" on {examples(test)}, where at least {FEWEST_GROUPS} are needed to call anything reached"


def against_baseline(board: Leaderboard) -> str | None:
    """Whether the winner is better than the best plain baseline, on dev."""
    winner = board.winner
    if winner is None:
        return None
    if winner.kind == "baseline":
        return f"No language model was shown to be better: the plain baseline {winner.label} is proposed."
    comparison = winner.against("baseline")
    if comparison is None:
        return None
    name = board.row(comparison.second).label
    ends, shown = "", digits(comparison.metric)
    if comparison.low is not None and comparison.high is not None:
        ends = f", 95% interval {difference(comparison.low, shown)} to {difference(comparison.high, shown)}"
    measured = f"{difference(comparison.difference, shown)} {comparison.metric} on dev{ends}"
    figures = f"{measured}, {p_stated(comparison.p)}"
    better = comparison.difference > 0 if board.metrics[0].higher_is_better else comparison.difference < 0
    if comparison.p >= 0.05:
        # Corrected for all comparisons of the plan; those with the best, of which `choice` speaks, are corrected apart.
        return f"Not shown to differ from the best baseline, {name}, among all planned comparisons: {figures}."
    return f"{'Better' if better else 'Worse'} than the best baseline, {name}: {figures}."


def choice(board: Leaderboard) -> str | None:
    """How the winner was chosen among those that cannot be told apart."""
    if board.choice is None or board.winner is None:
        return None
    names = [row.label for row in board.rows if row.tied]
    if len(names) < 2:
        # Said of these comparisons alone: others, among all that the plan declares, may not show a difference.
        return f"{board.winner.label} is alone at the top: in paired tests of all others against it, each differs."
    return (
        f"{len(names)} candidates cannot be told apart from the best; of these, {board.winner.label} takes the least "
        "work."
    )


def detectable(board: Leaderboard) -> str:
    """What difference dev can show; nothing where that is not known for the deciding metric."""
    what = "accuracy" if board.answers == "labels" else board.primary
    is_share = board.answers == "labels" or METRICS[what].is_proportion
    if board.detectable_difference is None and not is_share:
        return ""
    if board.detectable_difference is None:
        return f"Dev is too small to show a difference in {what} reliably."
    assumed = "" if is_share else ", if candidates differ by about 0.2 on single examples"
    return f"Dev can show differences in {what} of about {board.detectable_difference:.3f} and more{assumed}."


def looks(board: Leaderboard) -> str:
    """How often the test split was looked at."""
    times = board.run.test_looks
    often = "once" if times == 1 else f"{times} times"
    caution = "" if times <= 1 else " Each look after the first makes its figures a little too good."
    return f"The test split was looked at {often}.{caution}"


def limit(found: LimitRecord) -> str:
    """A sentence on a limit of the scope."""
    what, unit = _LIMITS.get(found.name, (found.name, ""))
    allowed = f"the limit of {found.limit:g} {unit} for {what}"
    if found.measured is None:
        return f"It is not known whether {allowed} is kept."
    return f"{'Within' if found.kept else 'Over'} {allowed}: {found.measured:.3g} {unit} measured."
