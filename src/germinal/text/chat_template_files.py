"""The chat templates of a Hugging Face folder, and the variables that its tokenizer's files give them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from germinal import storage
from germinal.errors import CheckpointError
from germinal.text.chat_template import Sources

_DEFAULT = "default"
_FILE, _FOLDER = "chat_template.jinja", "additional_chat_templates"


def read_sources(folder: Path, config: Mapping[str, Any], legacy: Mapping[str, Any]) -> Sources | None:
    """A folder's chat template, or its templates by name, from where transformers takes them.

    Files of their own (chat_template.jinja, additional_chat_templates/NAME.jinja) come before the entry of
    tokenizer_config.json, and that before chat_template.json, which older processors wrote.

    Args:
        config: The contents of tokenizer_config.json.
        legacy: Those of chat_template.json.

    Raises:
        CheckpointError: a template is not text.
    """
    files = {path.stem: path for path in sorted((folder / _FOLDER).glob("*.jinja"))}
    if (folder / _FILE).is_file():
        files = {_DEFAULT: folder / _FILE, **files}
    if files:
        return _few({name: _text(path) for name, path in files.items()})
    for name, values in (("tokenizer_config.json", config), ("chat_template.json", legacy)):
        if (found := values.get("chat_template")) is not None:
            return _few(_named(found, str(folder / name)))
    return None


def write_sources(folder: Path, sources: Sources) -> None:
    """Write templates into a folder as files of their own."""
    named = {_DEFAULT: sources} if isinstance(sources, str) else sources
    for name, source in named.items():
        storage.write_text(folder / _FILE if name == _DEFAULT else folder / _FOLDER / f"{name}.jinja", source)


def variables(config: Mapping[str, Any]) -> dict[str, str]:
    """The tokens that tokenizer_config.json names: a template finds each under its name.

    These are entries such as `image_token`, and those of `extra_special_tokens`, as far as it is a mapping.
    """
    extra = config.get("extra_special_tokens")
    named = {key: value for key, value in config.items() if key.endswith("_token")}
    named |= extra if isinstance(extra, Mapping) else {}
    texts = {key: value.get("content") if isinstance(value, Mapping) else value for key, value in named.items()}
    return {key: text for key, text in texts.items() if isinstance(text, str)}


def _few(named: dict[str, str]) -> Sources | None:
    return named[_DEFAULT] if list(named) == [_DEFAULT] else named or None


def _named(found: Any, where: str) -> dict[str, str]:
    """Templates by name, from one source, a mapping, or a list of objects with `name` and `template`."""
    if isinstance(found, str):
        return {_DEFAULT: found}
    if isinstance(found, list) and all(isinstance(entry, Mapping) for entry in found):
        found = {entry.get("name"): entry.get("template") for entry in found}
    if isinstance(found, Mapping) and all(isinstance(part, str) for pair in found.items() for part in pair):
        if odd := [name for name in found if not name.replace("_", "").replace("-", "").isalnum()]:
            raise CheckpointError(f"the name of a chat template is {odd[0]!r}.", where=where, hint="Use letters and _.")
        return dict(found)
    raise CheckpointError(
        "chat_template is not a template, nor templates by name.",
        where=where,
        hint='Write a text, or {"default": "...", "tool_use": "..."}.',
    )


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        raise CheckpointError(f"is not a text file: {error}.", where=str(path)) from error
