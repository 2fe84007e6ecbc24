"""Write docs/project-file.md, the reference of germinal.toml, from the classes that read it.

python docs/make_project_file.py
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from germinal.project.file.config import ProjectConfig

PAGE = Path(__file__).parent / "project-file.md"
HEAD = """# germinal.toml

Every key of a project file, made from the classes that read it by `python docs/make_project_file.py`. Relative paths
start at the file. Keys without a default have to be there. `germinal run --set KEY=VALUE` gives a key another value
for one run, the value as TOML: `--set adapt.prompt.shots=[0]`.
"""


def page() -> str:
    """The text of the page."""
    return HEAD + "".join(_tables(ProjectConfig.model_json_schema()))


def _tables(schema: dict[str, Any]) -> Iterator[str]:
    definitions = schema["$defs"]
    waiting: list[tuple[str, dict[str, Any], str]] = [("", schema, "")]
    while waiting:
        path, table, said = waiting.pop(0)
        rows, below = [], []
        for key, field in table["properties"].items():
            inner = _table_of(field, definitions)
            if inner is not None:
                below.append((f"{path}.{key}".lstrip("."), inner, field.get("description", "")))
                continue
            needed = key in table.get("required", ())
            default = (
                "" if needed else f"`{_toml(field.get('default'))}`" if field.get("default") is not None else "none"
            )
            rows.append(f"| `{key}` | {_kind(field, definitions)} | {default} | {field.get('description', '')} |")
        if rows:
            title = f"\n## `[{path}]`\n\n{said}\n" if path else "\n## At the top\n"
            yield title + "\n| key | value | default | meaning |\n|---|---|---|---|\n" + "\n".join(rows) + "\n"
        waiting = below + waiting


def _table_of(field: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any] | None:
    """The table that a key holds, or None when it holds a value."""
    for option in (field, *field.get("anyOf", ()), *field.get("allOf", ())):
        if "$ref" in option:
            found: dict[str, Any] = definitions[option["$ref"].rpartition("/")[2]]
            return found if "properties" in found else None
    return None


def _kind(field: dict[str, Any], definitions: dict[str, Any]) -> str:
    """What a key takes, in words."""
    if "enum" in field:
        return ", ".join(f"`{_toml(value)}`" for value in field["enum"])
    if "anyOf" in field:
        kinds = [_kind(option, definitions) for option in field["anyOf"] if option.get("type") != "null"]
        return " or ".join(dict.fromkeys(kinds))
    match field.get("type"):
        case "array":
            return f"list of {_kind(field['items'], definitions)}"
        case "object":
            values = field.get("additionalProperties")
            return f"table of {_kind(values, definitions)}" if isinstance(values, dict) and values else "table"
        case "string":
            return "text"
        case "integer":
            return "whole number" + _range(field)
        case "number":
            return "number" + _range(field)
        case "boolean":
            return "`true` or `false`"
    return "any value"


def _range(field: dict[str, Any]) -> str:
    words = {
        "minimum": "from {:g}",
        "exclusiveMinimum": "above {:g}",
        "exclusiveMaximum": "below {:g}",
        "maximum": "to {:g}",
    }
    said = [form.format(field[name]) for name, form in words.items() if name in field]
    return f" {', '.join(said)}" if said else ""


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        inner = ", ".join(f"{key} = {_toml(item)}" for key, item in value.items())
        return f"{{ {inner} }}" if inner else "{}"
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(value, ensure_ascii=False)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
