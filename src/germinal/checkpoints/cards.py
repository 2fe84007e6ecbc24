"""The card of a checkpoint: name, licence and source, written as README.md."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from germinal import storage
from germinal.files import read_bytes
from germinal.version import __version__

_FRONT_MATTER = re.compile(r"\A---\r?\n(.*?)\r?\n---", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """A checkpoint's card.

    Attributes:
        name: Its name.
        licence: SPDX-like identifier in lower case ("apache-2.0"), or None if unknown.
        source: Where the weights were read from: a reference that can be fetched again, or a path.
        stored_precision: The precision of most weights in the file: "float32", "bfloat16", "Q4_1", ...
        base_model: The model it was derived from, or None.
    """

    name: str
    licence: str | None = None
    source: str | None = None
    stored_precision: str | None = None
    base_model: str | None = None


def read_licence(folder: Path) -> str | None:
    """The licence in the front matter of a folder's README.md, or None."""
    path = folder / "README.md"
    if not path.is_file():
        return None
    block = _FRONT_MATTER.match(read_bytes(path).decode("utf-8", errors="replace"))
    found = re.search(r"^license:\s*([^\s#]+)", block[1], re.MULTILINE) if block else None
    return found[1].strip("\"'").lower() if found else None


def write_card(folder: Path, card: ModelCard, precision: str, parameters: int, task: str) -> None:
    """Write README.md in the format of the Hugging Face hub; `task` is the hub's name of the model's task."""
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
