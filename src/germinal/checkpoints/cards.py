"""What is known of a checkpoint beside its weights: name, licence, source; written as a README.md card."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from germinal import storage
from germinal.version import __version__

_FRONT_MATTER = re.compile(r"\A---\r?\n(.*?)\r?\n---", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """A checkpoint's card.

    Attributes:
        name: What to call it.
        licence: SPDX-like identifier in lower case ("apache-2.0"), or None when nothing says.
        source: Where the weights were read from: a reference that can be fetched again, or a path.
        stored_precision: How the file stores most of its weights: "float32", "bfloat16", "Q4_1", ...
        base_model: What it was made from, or None.
    """

    name: str
    licence: str | None = None
    source: str | None = None
    stored_precision: str | None = None
    base_model: str | None = None


def read_licence(folder: Path) -> str | None:
    """The licence that a folder's README.md names in its front matter."""
    path = folder / "README.md"
    if not path.is_file():
        return None
    block = _FRONT_MATTER.match(path.read_text(encoding="utf-8", errors="replace"))
    found = re.search(r"^license:\s*([^\s#]+)", block[1], re.MULTILINE) if block else None
    return found[1].strip("\"'").lower() if found else None


def write_card(folder: Path, card: ModelCard, precision: str, parameters: int, task: str) -> None:
    """Write README.md in the form the Hugging Face hub reads; `task` is the hub's name for what the model does."""

    lines = ["---", "library_name: transformers", f"pipeline_tag: {task}"]
    if card.licence:
        lines.append(f"license: {card.licence}")
    if card.base_model:
        lines.append(f"base_model: {card.base_model}")
    lines += ["tags:", "- germinal", "---", "", f"# {card.name}", ""]
    stored = f", which stores them as {card.stored_precision}" if card.stored_precision not in (None, precision) else ""
    origin = f" read from `{card.source}`{stored}" if card.source else ""
    lines.append(f"{parameters:,} weights in {precision}{origin}. Written by germinal {__version__}.")
    lines += ["", "```python", "import germinal", 'lm = germinal.load("path/to/this/folder")', "```", ""]
    storage.write_text(folder / "README.md", "\n".join(lines))
