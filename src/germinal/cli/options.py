"""Arguments and options that several commands share, and those that are made from the settings of lower floors."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Sequence
from dataclasses import fields
from decimal import Decimal
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import typer

from germinal.generation.config import GenerationConfig, parse_logit_bias

ProjectArgument = Annotated[
    Path, typer.Argument(metavar="PROJECT", help="A germinal.toml or its folder.", show_default="this folder")
]
ProjectOption = Annotated[
    Path,
    typer.Option(
        "--project", "-p", metavar="PROJECT", help="A germinal.toml or its folder.", show_default="this folder"
    ),
]
ModelArgument = Annotated[
    str, typer.Argument(metavar="MODEL", help="An alias, a folder, a .gguf file, or hf:organisation/name.")
]
PrecisionOption = Annotated[
    str | None, typer.Option(metavar="PRECISION", help="float32 or bfloat16.", show_default="the model's own")
]
AdapterOption = Annotated[Path | None, typer.Option(metavar="FOLDER", help="A LoRA adapter, as a PEFT folder.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Override a key of germinal.toml, for instance adapt.prompt.shots=[0]."
    ),
]
LimitOption = Annotated[int | None, typer.Option(min=1, metavar="N", help="Use at most N rows of dev and of test.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]


Command = Callable[..., None]


def generation_options(*, without: Collection[str] = ()) -> Callable[[Command], Command]:
    """Give a command one option for each generation setting, in the place of its parameter `settings: dict[str, Any]`.

    It receives those that were given; what is not given is left to the model.
    """
    options = [
        _option(
            setting.name,
            list[setting.type] if setting.many else setting.type,  # type: ignore[name-defined]
            metavar={"logit_bias": "ID=BIAS", "stop": "TEXT", "eos_ids": "ID"}.get(setting.name),
            help=setting.help,
            rich_help_panel="Generation settings (defaults are the model's own)",
            show_default=False,
        )
        for setting in GenerationConfig.settings()
        if setting.name not in without
    ]
    return _with_options("settings", options, _generation_settings)


def config_options(
    name: str, config: Any, *, panel: str, of_encoder: Any = None, without: Collection[str] = ()
) -> Callable[[Command], Command]:
    """Give a command one option for each field of a config, in the place of its parameter `name: dict[str, Any]`.

    It receives those that were given. An option's help is the field's.

    Args:
        name: The command's parameter.
        config: A dataclass with the defaults, which `--help` shows.
        panel: The title over the options in `--help`.
        of_encoder: The same dataclass with the defaults for an encoder.
        without: Fields that get no option.
    """
    types = get_type_hints(type(config))
    options = []
    for field in fields(config):
        if field.name in without:
            continue
        item, many = _item_type(types[field.name])
        defaults = [_shown(getattr(each, field.name)) for each in (config, of_encoder) if each is not None]
        option = _option(
            field.name,
            str if many else item,
            parser=_comma_separated(item) if many else None,
            metavar="A,B,..." if many else None,
            help=field.metadata["help"],
            rich_help_panel=panel,
            show_default="; of an encoder ".join(dict.fromkeys(defaults)) or False,
        )
        options.append(option)
    return _with_options(name, options, dict)


def _with_options(
    name: str, options: Sequence[inspect.Parameter], read: Callable[[dict[str, Any]], dict[str, Any]]
) -> Callable[[Command], Command]:
    """Put options in the place of a command's parameter, which receives what `read` makes of those that were given."""

    def decorate(command: Command) -> Command:
        def with_options(**values: Any) -> None:
            values_of = {option.name: values.pop(option.name) for option in options}
            given = {key: value for key, value in values_of.items() if value is not None and value != []}
            command(**values, **{name: read(given)})

        signature = inspect.signature(command, eval_str=True)
        parameters = [
            each
            for parameter in signature.parameters.values()
            for each in (options if parameter.name == name else [parameter])
        ]
        # What typer reads; `functools.wraps` would show it the signature without the new options.
        with_options.__name__, with_options.__doc__ = command.__name__, command.__doc__
        with_options.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        with_options.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return with_options

    return decorate


def _option(name: str, kind: Any, **details: Any) -> inspect.Parameter:
    """An option that is None when it is not given; `details` are those of `typer.Option`."""
    flag = name.replace("_", "-")
    option = typer.Option(f"--{flag}/--no-{flag}" if kind is bool else f"--{flag}", **details)
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, option]
    )


def _generation_settings(given: dict[str, Any]) -> dict[str, Any]:
    """Settings in the types of `GenerationConfig`."""
    settings = dict(given)
    if "logit_bias" in settings:
        settings["logit_bias"] = parse_logit_bias(settings["logit_bias"])
    if "stop" in settings:
        # A shell has no easy way to write a line break.
        settings["stop"] = tuple(text.replace("\\n", "\n").replace("\\t", "\t") for text in settings["stop"])
    return settings


def _item_type(annotation: Any) -> tuple[type, bool]:
    """The type of an option's values, without None, and whether it takes several of them."""
    kind = next(each for each in (get_args(annotation) or (annotation,)) if each is not NoneType)
    if isinstance(annotation, UnionType):
        return _item_type(kind)
    return kind, get_origin(annotation) is tuple


def _comma_separated(item: type) -> Callable[[str], tuple[Any, ...]]:
    return lambda text: tuple(item(each.strip()) for each in text.split(","))


def _shown(default: Any) -> str:
    """A default as it would be written on a command line; empty for None."""
    match default:
        case None:
            return ""
        case bool():
            return "yes" if default else ""
        case float():
            return f"{Decimal(repr(default)):f}"
        case tuple():
            return ",".join(map(str, default))
    return str(default)
