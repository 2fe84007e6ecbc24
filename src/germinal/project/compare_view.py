"""Two trials side by side on a terminal: the four cells, the test, then the examples on which they differ."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group
from rich.padding import Padding
from rich.text import Text

from germinal.project import wording
from germinal.project.terminal import table

if TYPE_CHECKING:
    from rich.console import RenderableType

    from germinal.project.compare import Difference, Reply, TrialComparison


def render(comparison: TrialComparison) -> RenderableType:
    """All of it."""
    parts: list[RenderableType] = [_head(comparison), _cells(comparison), _verdict(comparison)]
    if comparison.differing:
        parts.append(Text(f"\n{len(comparison.differing)} examples answered differently", style="bold"))
        parts += [_example(difference) for difference in comparison.differing]
    else:
        parts.append(Text("\nBoth gave the same answer to every example."))
    return Group(*parts)


def _head(comparison: TrialComparison) -> RenderableType:
    text = Text("A  ", style="bold")
    text.append(f"{comparison.first}\n", style="none")
    text.append("B  ")
    text.append(comparison.second, style="none")
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
    cells = table(heads, [[name, *map(str, row)] for name, *row in counts], styles=["", "", "dim"])
    return Padding(cells, (1, 0), expand=False)


def _verdict(comparison: TrialComparison) -> RenderableType:
    ends = f"95% interval {wording.difference(comparison.low)} to {wording.difference(comparison.high)}"
    text = Text(f"A − B: {wording.difference(comparison.difference)} accuracy, {ends}, ")
    text.append(wording.p_stated(comparison.p_value), style="bold")
    text.append(f" ({comparison.test}; exploratory, not corrected for other pairs)", style="dim")
    return text


def _example(difference: Difference) -> RenderableType:
    text = Text(f"#{difference.position}  ", style="dim")
    text.append(f"{difference.target}  ", style="bold")
    text.append(difference.input)
    for name, given in (("A", difference.first), ("B", difference.second)):
        text.append(f"\n  {name} ")
        text.append("✓ " if given.correct else "✗ ", style="green" if given.correct else "red")
        text.append(_said(given))
    return Padding(text, (1, 0, 0, 0), expand=False)


def _said(given: Reply) -> str:
    answer = given.answer if given.answer is not None else f"no answer ({given.error or 'nothing that is a label'})"
    raw = repr(given.text) if given.text is not None else wording.probabilities(given.probabilities or {})
    return f"{answer}  {raw}".rstrip()
