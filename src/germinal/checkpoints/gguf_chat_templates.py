"""The chat templates of a GGUF file: the default under the plain key, others under their names, which are listed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from germinal.text.chat_template import Sources

_DEFAULT, _NAMED, _NAMES = "tokenizer.chat_template", "tokenizer.chat_template.{}".format, "tokenizer.chat_templates"


def chat_templates(metadata: Mapping[str, Any]) -> Sources | None:
    """The template, or the templates by name, that a file's metadata hold."""
    default = metadata.get(_DEFAULT)
    names = metadata.get(_NAMES) or ()
    named = {name: found for name in names if isinstance(found := metadata.get(_NAMED(name)), str)}
    if not named:
        return default if isinstance(default, str) else None
    return {**({"default": default} if isinstance(default, str) else {}), **named}


def chat_template_metadata(sources: Sources | None) -> dict[str, Any]:
    """The inverse of `chat_templates`."""
    named = {"default": sources} if isinstance(sources, str) else dict(sources or {})
    default = {_DEFAULT: named.pop("default")} if "default" in named else {}
    others = {_NAMED(name): source for name, source in named.items()}
    return default | others | ({_NAMES: sorted(named)} if named else {})
