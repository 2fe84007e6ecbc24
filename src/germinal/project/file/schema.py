"""The JSON Schema of germinal.toml, published beside this file so that editors complete and check it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from germinal.project.file.config import ProjectConfig

SCHEMA_FILE = Path(__file__).with_name("germinal.schema.json")


def schema() -> dict[str, Any]:
    """The schema of `ProjectConfig`."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **ProjectConfig.model_json_schema(),
        "title": "germinal.toml",
    }


def schema_text() -> str:
    """The schema as the published file holds it; `python -m germinal.project.file.schema` writes it."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    SCHEMA_FILE.write_text(schema_text(), encoding="utf-8")
