"""Two trials side by side on a terminal: counts of right and wrong answers, the test, and where they differ."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.console import Group
from rich.padding import Padding
from rich.text import Text

from germinal.cli.views.tables import table
from germinal.project.board import formats, unanswered

if TYPE_CHECKING:
    from rich.console import RenderableType

    from germinal.project.board.comparison import Difference, Reply, TrialComparison


_TEXTS_SHOWN = 10  # examples; of more long texts a terminal gives no overview
_LONGEST_INPUT = 240


def render(comparison: TrialComparison) -> RenderableType:
    """The whole comparison."""
    texts = any(row.first.score is not None for row in comparison.differing)
    counted = _scores if texts else _cells
    parts: list[RenderableType] = [_head(comparison), counted(comparison), _verdict(comparison), *_lost(comparison)]
    if comparison.differing:
        shown = comparison.differing[:_TEXTS_SHOWN] if texts else comparison.differing
        parts.append(_title(len(comparison.differing), len(shown), comparison.metric))
        digits = formats.digits(comparison.metric)
        parts += [_text_example(row, digits) if texts else _example(row) for row in shown]
    else:
        parts.append(Text("\nBoth gave the same answer to every example."))
    return Group(*parts)


def _title(differing: int, shown: int, metric: str) -> RenderableType:
    text = Text(f"\n{differing} examples answered differently", style="bold")
    if shown < differing:
        text.append(f"; the {shown} that differ most in {metric} (--json has all)", style="dim")
    return text


def _head(comparison: TrialComparison) -> RenderableType:
    text = Text("A  ", style="bold")
    first, second = (f", {weights}" if weights else "" for weights in comparison.weights)
    text.append(f"{comparison.first}{first}\n", style="none")
    text.append("B  ")
    text.append(f"{comparison.second}{second}", style="none")
    limited = "" if comparison.limit is None else f", a trial run (--limit {comparison.limit})"
    text.append(f"\nin run {comparison.run}{limited}", style="yellow" if limited else "dim")
    return text


def _cells(comparison: TrialComparison) -> RenderableType:
    right = comparison.both_right + comparison.only_first
    both = comparison.both_right + comparison.only_second
    counts = [
        ("A right", comparison.both_right, comparison.only_first, right),
        ("A wrong", comparison.only_second, comparison.neither, comparison.n - right),
        ("", both, comparison.n - both, comparison.n),
    ]
    heads = [f"{comparison.n:,} {comparison.split} examples", "B right", "B wrong", ""]
    rows = [[name, *map(str, row)] for name, *row in counts]
    cells = table(heads, rows, right=heads[1:], styles=["", "", "dim"])
    return Padding(cells, (1, 0), expand=False)


def _scores(comparison: TrialComparison) -> RenderableType:
    digits = formats.digits(comparison.metric)
    figures = (formats.value(figure, digits) for figure in comparison.figures)
    rows = [[name, figure, str(better)] for name, figure, better in zip("AB", figures, comparison.better, strict=True)]
    heads = [f"{comparison.n:,} {comparison.split} examples", comparison.metric, "better in"]
    return Padding(table(heads, rows, right=heads[1:]), (1, 0), expand=False)


def _verdict(comparison: TrialComparison) -> RenderableType:
    digits = formats.digits(comparison.metric)
    text = Text(f"A − B: {formats.difference(comparison.difference, digits)} {comparison.metric}, ")
    if comparison.low is None or comparison.high is None:
        text.append("no interval can be given, ")
    else:
        low, high = (formats.difference(end, digits) for end in (comparison.low, comparison.high))
        text.append(f"95% interval {low} to {high}, ")
    text.append(formats.p_stated(comparison.p_value), style="bold")
    text.append(f" ({comparison.test}; exploratory, not corrected for other pairs)", style="dim")
    return text


def _lost(comparison: TrialComparison) -> Iterator[RenderableType]:
    """How many answers of each side cannot count, so that the test is not one of the models."""
    for name, counts in zip("AB", comparison.counts, strict=True):
        if counts is not None and counts.lost:
            yield Text(
                f"Of the answers of {name}, {unanswered.told(counts, comparison.max_new_tokens)}.", style="yellow"
            )


def _example(difference: Difference) -> RenderableType:
    text = Text(f"#{difference.position}  ", style="dim")
    text.append(f"{difference.target}  ", style="bold")
    text.append(difference.input)
    for name, given in (("A", difference.first), ("B", difference.second)):
        text.append(f"\n  {name} ")
        text.append("✓ " if given.correct else "✗ ", style="green" if given.correct else "red")
        text.append(_said(given))
    return Padding(text, (1, 0, 0, 0), expand=False)


def _text_example(difference: Difference, digits: int) -> RenderableType:
    text = Text(f"#{difference.position}  ", style="dim")
    text.append(_shortened(difference.input))
    text.append("\n  = ", style="bold")
    text.append(difference.target, style="bold")
    for name, given in (("A", difference.first), ("B", difference.second)):
        text.append(f"\n  {name} {formats.value(given.score, digits)}  ", style="dim")
        text.append(given.answer if given.answer is not None else f"no answer ({given.error})")
    return Padding(text, (1, 0, 0, 0), expand=False)


def _shortened(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST_INPUT else line[: _LONGEST_INPUT - 3] + "..."


def _said(given: Reply) -> str:
    answer = given.answer if given.answer is not None else f"no answer ({given.error or 'nothing that is a label'})"
    raw = repr(given.text) if given.text is not None else formats.probabilities(given.probabilities or {})
    return f"{answer}  {raw}".rstrip()
