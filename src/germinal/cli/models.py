"""`germinal models`: the models that have a short name here, and every published size of every family."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from germinal.cli.options import JsonOption
from germinal.cli.views.tables import megabytes, millions, table

if TYPE_CHECKING:
    from germinal.checkpoints.catalogue import Alias
    from germinal.models.families.sizes import Size

_PRECISIONS = ("float32", "bfloat16")


SizesOption = Annotated[
    bool, typer.Option("--sizes", help="Every published size of every family, with its number of parameters.")
]


def models(sizes: SizesOption = False, as_json: JsonOption = False) -> None:
    """List the known aliases: size class, stacks, stored and computing precisions, context window, licence.

    Every other model of these families is named by its folder, its .gguf file, or hf:organisation/name.
    """
    if sizes:
        _list_sizes(as_json)
        return
    from germinal.checkpoints.catalogue import ALIASES

    known = sorted(ALIASES.values(), key=lambda alias: (alias.parameters, alias.name))
    if as_json:
        typer.echo(json.dumps([_as_json(alias) for alias in known], indent=2, ensure_ascii=False))
        return
    from germinal.cli.views.console import stdout

    columns = ("alias", "size class", "parameters", "stacks", "stored as", *_PRECISIONS, "context", "chat", "licence")
    rows = ((alias.name, alias.size_class, *_facts(alias)) for alias in known)
    stdout.print(table(columns, rows, right=("parameters", *_PRECISIONS, "context")))
    stdout.print("\nMemory is that of the weights; `germinal plan` adds cache and activations.", style="dim")


def _facts(alias: Alias) -> tuple[str, ...]:
    memory = (megabytes(alias.weight_bytes(precision)) for precision in _PRECISIONS)
    chat = "yes" if alias.chat else ""
    return (
        millions(alias.parameters),
        alias.stacks,
        alias.stored_precision,
        *memory,
        f"{alias.context_window:,}",
        chat,
        alias.licence,
    )


def _as_json(alias: Alias) -> dict[str, Any]:
    from dataclasses import asdict

    memory = {precision: alias.weight_bytes(precision) for precision in _PRECISIONS}
    return {**asdict(alias), "size_class": alias.size_class, "weight_bytes": memory}


def _list_sizes(as_json: bool) -> None:
    from germinal.models.families.sizes import SIZES

    counted = [(size, size.parameters()) for size in SIZES]
    if as_json:
        typer.echo(json.dumps([_size_as_json(*each) for each in counted], indent=2, ensure_ascii=False))
        return
    from germinal.cli.views.console import stdout

    columns = ("size", "layers", "width", "heads", "parameters", *_PRECISIONS)
    rows: list[tuple[str, ...]] = []
    family = ""
    for size, parameters in counted:
        if size.family != family:
            family = size.family
            rows.append((f"{family}: {size.config.stacks}", *("" for _ in columns[1:])))
        rows.append((f"  {size.name}", *_size_facts(size, parameters)))
    stdout.print(table(columns, rows, right=columns[1:]))
    stdout.print()
    notes: dict[str, list[str]] = {}
    for size in SIZES:
        if size.note:
            notes.setdefault(size.note, []).append(size.name)
    for note, names in notes.items():
        stdout.print(f"{', '.join(names)}: {note}.", style="dim")
    stdout.print(
        "Layers: of the encoder + of the decoder, where there are both. Heads: for queries / for keys and values, "
        "where these are fewer. Memory is that of the weights.",
        style="dim",
    )


def _size_facts(size: Size, parameters: int) -> tuple[str, ...]:
    config = size.config
    layers = f"{config.num_layers}"
    if config.stacks == "encoder-decoder":
        layers = f"{config.encoder_layers} + {config.num_layers}"
    heads = f"{config.num_heads}"
    if config.num_kv_heads != config.num_heads:
        heads += f" / {config.num_kv_heads}"
    memory = (megabytes(count) for count in _weight_bytes(parameters).values())
    return (layers, f"{config.hidden_size:,}", heads, f"{parameters:,}", *memory)


def _size_as_json(size: Size, parameters: int) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "name": size.name,
        "family": size.family,
        "parameters": parameters,
        "weight_bytes": _weight_bytes(parameters),
        "note": size.note,
        "config": asdict(size.config),
    }


def _weight_bytes(parameters: int) -> dict[str, int]:
    from germinal.models.families.sizes import BYTES

    return {precision: parameters * BYTES[precision] for precision in _PRECISIONS}
