"""A proposal becomes a germinal.toml, every choice explained beside it, and the schema that editors read."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from germinal.errors import ProjectFileError
from germinal.project.file.reader import FILE_NAME
from germinal.project.file.schema import schema_text
from germinal.project.init.lengths import TooLong
from germinal.project.init.proposal import Proposal
from germinal.storage import write_text

SCHEMA_FILE = Path(".germinal") / "germinal.schema.json"


def write_project(proposal: Proposal, path: str | Path, overwrite: bool = False) -> Path:
    """Write germinal.toml, and beside it the JSON Schema that its first line points editors to.

    Args:
        proposal: What it is to say.
        path: The file, or its folder.
        overwrite: Replace a file that is there.

    Raises:
        ProjectFileError: there is a file, and `overwrite` is False.
        StorageError: it cannot be written.
    """
    path = Path(path)
    file = path / FILE_NAME if path.is_dir() or not path.suffix else path
    if file.exists() and not overwrite:
        raise ProjectFileError("there is a project file already.", where=str(file), hint="--overwrite replaces it.")
    write_text(file.parent / SCHEMA_FILE, schema_text())
    write_text(file, project_file(proposal, file.parent))
    return file


def project_file(proposal: Proposal, folder: Path) -> str:
    """The text of the project file, for a file in `folder`."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(toml=_toml, too_long=too_long, comment=_comment)
    data = os.path.relpath(proposal.data.resolve(), folder.resolve())
    template = environment.get_template("germinal.toml.jinja")
    return template.render(proposal=proposal, data=Path(data).as_posix(), schema=SCHEMA_FILE.as_posix())


def too_long(found: TooLong) -> str:
    """A sentence on prompts that a model cannot read whole."""
    shots = f" with {found.shots} worked examples of mean length" if found.shots else ""
    return (
        f"{found.prompts:,} of the {found.rows:,} training rows make prompts{shots} that are too long for "
        f"{found.model}, which takes {found.window:,} tokens: the longest has {found.longest:,} without its answer."
    )


def _comment(text: str) -> str:
    """A text that stays in its line."""
    return " ".join(text.split())


def _toml(value: object) -> str:
    """A value in TOML: JSON's strings, numbers and lists are valid TOML, except for one control character."""
    match value:
        case Mapping():
            return "{ " + ", ".join(f"{_key(str(key))} = {_toml(item)}" for key, item in value.items()) + " }"
        case tuple() | list():
            return "[" + ", ".join(_toml(item) for item in value) + "]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _key(name: str) -> str:
    bare = name.isascii() and name.replace("-", "").replace("_", "").isalnum()
    return name if bare else _toml(name)
