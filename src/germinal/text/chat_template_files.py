"""The chat templates of a Hugging Face folder, and the variables that its tokenizer's files give them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from germinal import files, storage
from germinal.errors import CheckpointError
from germinal.text.chat_template import Sources

_DEFAULT = "default"
_FILE, _FOLDER = "chat_template.jinja", "additional_chat_templates"


def read_sources(folder: Path, inline: object) -> Sources | None:
    """A folder's chat template, or its templates by name, from where transformers takes them.

    Files of their own (chat_template.jinja, additional_chat_templates/NAME.jinja) come before the entry of
    tokenizer_config.json, and that before chat_template.json, which older processors wrote.

    Args:
        inline: The entry `chat_template` of tokenizer_config.json.

    Raises:
        CheckpointError: a template is not text.
    """
    named = {path.stem: path for path in sorted((folder / _FOLDER).glob("*.jinja"))}
    if (folder / _FILE).is_file():
        named = {_DEFAULT: folder / _FILE, **named}
    if named:
        # Line ends become "\n", as Python reads text.
        return _single(
            {name: files.read_text(path).replace("\r\n", "\n").replace("\r", "\n") for name, path in named.items()}
        )
    if inline is not None:
        return _single(_named(inline, str(folder / "tokenizer_config.json")))
    older = folder / "chat_template.json"
    found = files.read_json_object(older).get("chat_template") if older.is_file() else None
    return None if found is None else _single(_named(found, str(older)))


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


def _single(named: dict[str, str]) -> Sources | None:
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
