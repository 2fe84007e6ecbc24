"""germinal.toml and --set overrides become a `ProjectConfig`; errors name file, line, key and the nearest name."""

from __future__ import annotations

import re
import tomllib
import types
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from germinal.errors import ProjectFileError, nearest
from germinal.evaluation.metrics import METRICS
from germinal.files import read_text
from germinal.project.file.config import ProjectConfig
from germinal.project.file.tasks import BASELINES_OF, RULES_OF, TASKS

FILE_NAME = "germinal.toml"

KeyPath = tuple[str, ...]


def find_project_file(path: str | Path) -> Path:
    """The project file at `path`, which may be its folder.

    Raises:
        ProjectFileError: there is none.
    """
    path = Path(path)
    file = path / FILE_NAME if path.is_dir() else path
    if not file.is_file():
        hint = (
            f"`germinal init` makes a {FILE_NAME}." if file.name == FILE_NAME else "Name a germinal.toml or its folder."
        )
        raise ProjectFileError("no such project file.", where=str(file), hint=hint)
    return file


def read_project_file(path: str | Path, overrides: Sequence[str] = ()) -> ProjectConfig:
    """Read and validate a project file.

    Args:
        path: A germinal.toml, or its folder.
        overrides: `key.path=value`, the value in TOML, applied before validation.

    Raises:
        ProjectFileError: names file, line and key, what was expected, and the nearest valid name.
    """
    file = find_project_file(path)
    try:
        text = read_text(file, error=ProjectFileError)
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _syntax_error(file, error) from error
    except RecursionError:
        raise ProjectFileError("is nested too deep.", where=str(file)) from None
    overridden = {_apply(values, item) for item in overrides}
    try:
        config = ProjectConfig.model_validate(values)
    except ValidationError as error:
        raise _explain(file, text, error, overridden) from error
    _check_names(config, file, text, overridden)
    return config


def key_line(text: str, path: KeyPath) -> int | None:
    """The line (from 1) of a key in a TOML text, or of the nearest table around it; None if neither is there."""
    best: tuple[int, int] | None = None
    for line, written in _statements(text):
        depth = len(written)
        if written == path[:depth] and (best is None or depth > best[0]):
            best = (depth, line)
    return best[1] if best else None


def _statements(text: str) -> Iterator[tuple[int, KeyPath]]:
    """Every key path of a valid TOML text, with its line. tomllib itself parses the pieces."""
    lines = text.splitlines()
    table: KeyPath = ()
    start = 0
    while start < len(lines):
        if header := re.match(r"\s*\[\[?([^\[\]]+)\]\]?\s*(#.*)?$", lines[start]):
            table = next(_paths(tomllib.loads(f"[{header.group(1)}]")))
            yield start + 1, table
            start += 1
            continue
        for end in range(start + 1, len(lines) + 1):
            try:
                values = tomllib.loads("\n".join(lines[start:end]))
            except tomllib.TOMLDecodeError:
                continue  # a value of several lines
            for path in _paths(values):
                for depth in range(1, len(path) + 1):
                    yield start + 1, (*table, *path[:depth])
            break
        start = end


def _paths(values: Mapping[str, Any]) -> Iterator[KeyPath]:
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from ((key, *path) for path in _paths(value))
        else:
            yield (key,)


def _apply(values: dict[str, Any], override: str) -> KeyPath:
    """Set a key of parsed TOML values as an override says, and return the key's path.

    Raises:
        ProjectFileError: the override is not `key.path=value`, or the value is not TOML.
    """
    where = f"--set {override}"
    key, equals, value = override.partition("=")
    path = tuple(part.strip() for part in key.split("."))
    if not equals or not all(path):
        raise ProjectFileError("expected key.path=value.", where=where, hint="For example adapt.lora.rank=16.")
    try:
        parsed = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError as error:
        raise ProjectFileError(
            f"the value {value} is not TOML.", where=where, hint=f"Put text in quotes: {key}='\"{value}\"'."
        ) from error
    table = values
    for part in path[:-1]:
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            raise ProjectFileError(f"'{part}' is not a table.", where=where)
    table[path[-1]] = parsed
    return path


def _syntax_error(file: Path, error: tomllib.TOMLDecodeError) -> ProjectFileError:
    found = re.search(r"\(at line (\d+), column (\d+)\)", str(error))
    where = f"{file}:{found.group(1)}" if found else str(file)
    what = re.sub(r"\s*\(at .*\)$", "", str(error))
    return ProjectFileError(f"is not valid TOML: {what[:1].lower()}{what[1:]}.", where=where)


def _explain(file: Path, text: str, error: ValidationError, overridden: set[KeyPath]) -> ProjectFileError:
    """The first error in full, and the keys of the others."""
    details = sorted(
        error.errors(), key=lambda item: item["type"] != "extra_forbidden"
    )  # a misspelt key explains a missing one
    first = details[0]
    path = _key_path(first)
    what, hint = _described(first, path)
    others = sorted({".".join(_key_path(item)) for item in details} - {".".join(path)})
    also = f" Also wrong: {', '.join(others)}." if others else ""
    return ProjectFileError(
        what, where=_place(file, text, path, overridden), hint=f"{hint or ''}{also}".strip() or None
    )


def _place(file: Path, text: str, path: KeyPath, overridden: set[KeyPath]) -> str:
    if any(path[: len(key)] == key for key in overridden):
        return f"--set {'.'.join(path)}"
    line = key_line(text, path)
    return f"{file}:{line}" if line else str(file)


def _key_path(item: ErrorDetails) -> KeyPath:
    """The key that an error is about: pydantic's location without list indices and the names of types."""
    path: list[str] = []
    model: Any = ProjectConfig
    for part in item["loc"]:
        if not isinstance(part, str) or model is None:
            break
        path.append(part)
        model = _field_model(model, part)
    return tuple(path)


def _field_model(model: Any, key: str) -> type[BaseModel] | None:
    """The table class of a field, or None when it holds a value."""
    field = model.model_fields.get(key)
    if field is None:
        return None
    annotation = field.annotation
    options = get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)
    return next((option for option in options if isinstance(option, type) and issubclass(option, BaseModel)), None)


def _described(item: ErrorDetails, path: KeyPath) -> tuple[str, str | None]:
    """What is wrong, and a hint, in the terms of a TOML file."""
    key = ".".join(path)
    found = item.get("input")
    match item["type"]:
        case "extra_forbidden":
            table: Any = ProjectConfig
            for part in path[:-1]:
                table = _field_model(table, part)
            place = f"in [{'.'.join(path[:-1])}]" if path[:-1] else "at the top"
            return f"there is no key '{path[-1]}' {place}.", nearest(path[-1], list(table.model_fields))
        case "missing":
            place = f"[{'.'.join(path[:-1])}]" if path[:-1] else "the file"
            return f"the key '{path[-1]}' is missing from {place}.", _meaning(path)
        case "literal_error":
            allowed = re.findall(r"'([^']*)'", item["ctx"]["expected"])
            expected = ", ".join(f'"{name}"' for name in allowed)
            return f"{key}: expected one of {expected}, found {_shown(found)}.", nearest(str(found), allowed)
        case "too_short":
            return f"{key}: expected at least {item['ctx']['min_length']} item, found {_shown(found)}.", _meaning(path)
        case "value_error":
            return (f"{key}: " if key else "") + str(item["ctx"]["error"]), None
    expected = re.sub(r"^Input should be (a |an )?", "", item["msg"]).replace("valid ", "")
    return f"{key}: expected {expected}, found {_shown(found)}.", _meaning(path)


def _meaning(path: KeyPath) -> str | None:
    model: Any = ProjectConfig
    for part in path[:-1]:
        model = _field_model(model, part) if model else None
    field = model.model_fields.get(path[-1]) if model and path else None
    return field.description if field else None


def _shown(value: Any) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return f'"{value}"'
        case dict():
            return "a table"
    return str(value)


def _check_names(config: ProjectConfig, file: Path, text: str, overridden: set[KeyPath]) -> None:
    """Refuse names of metrics and models that nothing defines, and whatever does not fit the task.

    Raises:
        ProjectFileError: names the key and the nearest valid name.
    """

    def refuse(path: KeyPath, what: str, hint: str) -> ProjectFileError:
        return ProjectFileError(f"{'.'.join(path)}: {what}", where=_place(file, text, path, overridden), hint=hint)

    for metric in config.scope.metrics:
        if metric not in METRICS:
            raise refuse(("scope", "metrics"), f"there is no metric '{metric}'.", nearest(metric, list(METRICS)))
    for model in config.headed:
        if model not in config.select.models:
            what = f"'{model}' is not among select.models."
            hint = f"{nearest(model, config.select.models)} " if config.select.models else ""
            raise refuse(("adapt", "head", "models"), what, f"{hint}Name it there too, or leave it out here.")
    for metric, required in config.scope.success.items():
        if metric not in config.scope.metrics:
            what = f"'{metric}' is not among scope.metrics."
            raise refuse(("scope", "success", metric), what, nearest(metric, list(config.scope.metrics)))
        low, high = METRICS[metric].bounds
        if required < low or (high is not None and required > high):
            upper = "" if high is None else f" to {high:g}"
            what = f"expected a value that {metric} can have, found {required:g}."
            raise refuse(("scope", "success", metric), what, f"Its scale goes from {low:g}{upper}.")
    for path, what, hint in _misfits(config):
        raise refuse(path, what, hint)


def _misfits(config: ProjectConfig) -> Iterator[tuple[KeyPath, str, str]]:
    """What does not fit the answers of the task, labels or texts: key, what is wrong, and what would fit."""
    scope, task = config.scope, TASKS.get(config.scope.task)
    if task is None:
        return  # StepGraph refuses it
    metrics = [name for name, metric in METRICS.items() if metric.answers == task.answers]
    listed: Sequence[tuple[KeyPath, str, Sequence[str], Sequence[str]]] = (
        (("scope", "metrics"), "metric", scope.metrics, metrics),
        (("select", "baselines"), "baseline", config.select.baselines, BASELINES_OF[task.answers]),
        (("adapt", "prompt", "rules"), "rule", config.adapt.prompt.rules, RULES_OF[task.answers]),
    )
    said = "labels" if task.answers == "labels" else "texts"
    for path, kind, chosen, fitting in listed:
        for name in chosen:
            if name not in fitting:
                what = f"the {kind} '{name}' does not fit the task '{scope.task}', whose answers are {said}."
                yield path, what, f"What fits: {', '.join(fitting)}."
    if task.answers == "text" and scope.labels:
        what = f"a {scope.task} has no labels; its answers are texts."
        yield ("scope", "labels"), what, 'Remove it, or say task = "classification".'
    if task.answers == "text" and config.adapt.head is not None:
        what = f"a head gives labels, and the answers of a {scope.task} are texts."
        yield ("adapt", "head"), what, 'Remove the table, or say task = "classification".'
