"""Answers that cannot count, in words: a figure over such answers is not one about the model."""

from __future__ import annotations

from collections.abc import Iterator

from germinal.ledger import CountsRecord
from germinal.project.board.leaderboard import Leaderboard, Row

_MOST_SENTENCES = 3
_SAID = {"failed": "failed", "cut": "cut", "empty": "empty", "unparsable": "without a label"}
_NO_LABEL = 'Try the rule "likelihood", worked examples, or words for the labels that the model uses.'
_REMEDIES = {
    "failed": "The report has the errors.",
    "cut": "Give max_new_tokens under [apply.generation] a higher value.",
    "empty": "Look at the prompts in the report: the model ends its answer at once.",
    "unparsable": _NO_LABEL,
}


def kinds(counts: CountsRecord | None) -> list[str]:
    """How many cannot count for each cause: "3 cut"."""
    return [f"{number:,} {said}" for kind, said in _SAID.items() if (number := getattr(counts, kind, 0))]


def share(counts: CountsRecord | None) -> str:
    """How many cannot count, for a cell of a table: 12 of 300 as "12/300"."""
    return "" if counts is None else f"{counts.lost:,}/{counts.answers:,}" if counts.lost else "none"


def told(counts: CountsRecord, max_new_tokens: int | None) -> str:
    """How many cannot count, as the end of a sentence: "18 of 18 were cut at max_new_tokens = 16".

    Args:
        max_new_tokens: None where labels have room for the longest of them, so that more would not help.
    """
    limit = "before they named a label" if max_new_tokens is None else f"at max_new_tokens = {max_new_tokens}"
    said = {"failed": "failed", "cut": f"were cut {limit}", "empty": "were empty", "unparsable": "named no label"}
    kinds = [kind for kind in _SAID if getattr(counts, kind)]
    return ", ".join(f"{getattr(counts, kind):,} of {counts.answers:,} {said[kind]}" for kind in kinds)


def no_verdict(board: Leaderboard) -> str | None:
    """Why the figures allow no verdict on models, and what to do; None where they do.

    They do not where most answers cannot count: those of every candidate with a model, or those of the winner.
    """
    models = [row for row in board.rows if row.kind != "baseline"]
    winner = board.winner
    if winner in models and not winner.answered:
        worst = winner
    elif models and not any(row.answered for row in models):
        worst = max(models, key=_share)
    else:
        return None
    assert worst.counts is not None
    said = told(worst.counts, board.max_new_tokens)
    remedy = _remedy(worst.counts, board.max_new_tokens)
    return f"No verdict on models: most answers cannot count. Of {worst.label}'s, {said}. {remedy}"


def lost(board: Leaderboard) -> Iterator[str]:
    """A sentence on each candidate with a model of whose answers some cannot count, those with the most first."""
    silent = [row for row in board.rows if row.kind != "baseline" and row.counts is not None and row.counts.lost]
    silent.sort(key=lambda row: -_share(row))
    for row in silent[:_MOST_SENTENCES]:
        assert row.counts is not None
        yield f"Of the answers of {row.label}, {told(row.counts, board.max_new_tokens)}."
    if (more := len(silent) - _MOST_SENTENCES) > 0:
        yield f"So it is with answers of {more} more candidate{'s' if more > 1 else ''}."


def _share(row: Row) -> float:
    return row.counts.lost / row.counts.answers if row.counts and row.counts.answers else 0.0


def _remedy(counts: CountsRecord, max_new_tokens: int | None) -> str:
    """What to do about the most frequent kind."""
    most = max(_REMEDIES, key=lambda kind: getattr(counts, kind))
    return _NO_LABEL if most == "cut" and max_new_tokens is None else _REMEDIES[most]
