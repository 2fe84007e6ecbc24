"""Arguments and options that several commands share, and the options made from `GenerationConfig`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from germinal.generation.config import GenerationConfig, Setting, parse_logit_bias

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
        "--set", metavar="KEY=VALUE", help="Another value for a key of germinal.toml, as adapt.prompt.shots=[0]."
    ),
]
LimitOption = Annotated[int | None, typer.Option(min=1, metavar="N", help="Only N rows of dev and of test.")]
JsonOption = Annotated[bool, typer.Option("--json", help="JSON for programs, on standard output.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]


def generation_options(*, without: tuple[str, ...] = ()) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command one option for each generation setting; it receives those that were given as `settings`.

    The command's last parameter has to be `settings: dict[str, Any]`. What is not given is left to the model.
    """
    chosen = [setting for setting in GenerationConfig.settings() if setting.name not in without]

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        def with_options(**values: Any) -> None:
            given = {setting.name: values.pop(setting.name) for setting in chosen}
            command(**values, settings=_settings(given))

        signature = inspect.signature(command, eval_str=True)
        own = [parameter for name, parameter in signature.parameters.items() if name != "settings"]
        parameters = [*own, *map(_parameter, chosen)]
        # What typer reads; `functools.wraps` would show it the signature without the new options.
        with_options.__name__, with_options.__doc__ = command.__name__, command.__doc__
        with_options.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        with_options.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return with_options

    return decorate


def _parameter(setting: Setting) -> inspect.Parameter:
    kind = list[setting.type] if setting.many else setting.type  # type: ignore[name-defined]
    option = typer.Option(
        f"--{setting.name.replace('_', '-')}",
        help=setting.help,
        metavar={"logit_bias": "ID=BIAS", "stop": "TEXT", "eos_ids": "ID"}.get(setting.name),
        rich_help_panel="Generation settings (defaults are the model's own)",
        show_default=False,
    )
    return inspect.Parameter(
        setting.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, option]
    )


def _settings(values: dict[str, Any]) -> dict[str, Any]:
    """Only what was given, in the types of `GenerationConfig`."""
    given = {name: value for name, value in values.items() if value is not None and value != []}
    if "logit_bias" in given:
        given["logit_bias"] = parse_logit_bias(given["logit_bias"])
    if "stop" in given:
        # A shell has no easy way to write a line break.
        given["stop"] = tuple(text.replace("\\n", "\n").replace("\\t", "\t") for text in given["stop"])
    return given
