"""The two consoles. Text is printed as it is: no markup is read out of a prompt, a label or a path."""

from __future__ import annotations

from rich.console import Console

_WIDE = 120  # columns of a file or a pipe, which have no width of their own


def _console(to_stderr: bool) -> Console:
    console = Console(stderr=to_stderr, markup=False, highlight=False, emoji=False)
    if not console.is_terminal:
        console.width = _WIDE
    return console


stdout = _console(to_stderr=False)
stderr = _console(to_stderr=True)
