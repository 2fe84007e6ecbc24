"""Draw the leaderboard of a project as it stands on a terminal, in an SVG that follows the reader's theme.

    python docs/images/make_leaderboard.py examples/reviews docs/images/leaderboard.svg

It reads the ledger that `germinal run` filled, so that the picture in the README shows figures that were measured.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from io import StringIO
from pathlib import Path
from xml.sax.saxutils import escape

from rich.cells import cell_len
from rich.console import Console
from rich.segment import Segment

from germinal.cli.views.leaderboard import parts
from germinal.figures import css
from germinal.project import Project
from germinal.project.board.leaderboard import Leaderboard
from germinal.storage import write_text

COLUMNS, ADVANCE, LINE, MARGIN, BAR = 100, 7.8, 19.0, 22.0, 34.0
SHOWN = ("use case", "quality", "test", "conclusion")
COLOURS = {"green": "good", "yellow": "baseline", "red": "bad"}


def main(project: str, picture: str) -> None:
    """Draw the leaderboard of `project` into the file `picture`."""
    write_text(Path(picture), draw(Project(project).leaderboard(), f"germinal run {project}/germinal.toml"))


def draw(board: Leaderboard, command: str) -> str:
    """The SVG: a window with the command and what it printed."""
    console = Console(file=StringIO(), width=COLUMNS, color_system="standard", force_terminal=True, highlight=False)
    lines = [[Segment(f"$ {command}")], []]
    for name, part in parts(board):
        if name in SHOWN:
            lines += console.render_lines(part, pad=False)
    while lines and not "".join(segment.text for segment in lines[-1]).strip():
        lines.pop()
    width = 2 * MARGIN + COLUMNS * ADVANCE
    height = BAR + 2 * MARGIN + LINE * len(lines)
    body = "\n".join(text for number, line in enumerate(lines) for text in _line(line, number))
    dots = "".join(f'<circle cx="{20 + 18 * place}" cy="{BAR / 2}" r="5"/>' for place in range(3))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}">\n<title>{escape(command)}</title>\n'
        f"<style>{css()}{_STYLE}</style>\n"
        f'<rect class="window" x="0.5" y="0.5" width="{width - 1:.0f}" height="{height - 1:.0f}" rx="10"/>\n'
        f'<g class="dots">{dots}</g>\n<g>\n{body}\n</g>\n</svg>\n'
    )


_STYLE = (
    ".window{fill:var(--g-background);stroke:var(--g-grid)}.dots{fill:var(--g-grid)}"
    "text{font:13px ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace;fill:var(--g-ink)}"
    ".bold{font-weight:700}.dim{fill:var(--g-muted)}"
    ".good{fill:var(--g-good)}.bad{fill:var(--g-bad)}.baseline{fill:var(--g-baseline)}"
)


def _line(line: Iterable[Segment], number: int) -> Iterable[str]:
    """The runs of one line, each held to the grid whatever the reader's font is."""
    column = 0
    for text, style, _ in line:
        classes = []
        if style is not None:
            classes += ["bold"] * bool(style.bold) + ["dim"] * bool(style.dim)
            classes += [COLOURS[style.color.name]] if style.color and style.color.name in COLOURS else []
        named = f' class="{" ".join(classes)}"' if classes else ""
        for run in re.finditer(r"\S+(?: \S+)*", text):  # no outer or double spaces: viewers drop them
            x = MARGIN + (column + cell_len(text[: run.start()])) * ADVANCE
            y = BAR + MARGIN + LINE * (number + 0.5)
            length = cell_len(run.group()) * ADVANCE
            yield f'<text{named} x="{x:.1f}" y="{y:.1f}" textLength="{length:.1f}">{escape(run.group())}</text>'
        column += cell_len(text)


if __name__ == "__main__":
    main(*sys.argv[1:])
