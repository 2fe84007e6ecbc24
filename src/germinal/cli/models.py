"""`germinal models`: the models that have a short name here."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import typer

from germinal.cli.options import JsonOption
from germinal.cli.tables import megabytes, millions, table

if TYPE_CHECKING:
    from germinal.checkpoints.catalogue import Alias

_PRECISIONS = ("float32", "bfloat16")


def models(as_json: JsonOption = False) -> None:
    """List the known aliases: size class, stacks, memory by precision, context window, licence.

    Every other model of these families is named by its folder, its .gguf file, or hf:organisation/name.
    """
    from germinal.checkpoints.catalogue import ALIASES

    known = sorted(ALIASES.values(), key=lambda alias: (alias.parameters, alias.name))
    if as_json:
        typer.echo(json.dumps([_as_json(alias) for alias in known], indent=2, ensure_ascii=False))
        return
    from germinal.cli.console import stdout

    columns = ("alias", "size class", "parameters", "stacks", *_PRECISIONS, "context", "chat", "licence")
    rows = ((alias.name, alias.size_class, *_facts(alias)) for alias in known)
    stdout.print(table(columns, rows, right=("parameters", *_PRECISIONS, "context")))
    stdout.print("\nMemory is that of the weights; `germinal plan` adds cache and activations.", style="dim")


def _facts(alias: Alias) -> tuple[str, ...]:
    memory = (megabytes(alias.weight_bytes(precision)) for precision in _PRECISIONS)
    chat = "yes" if alias.chat else ""
    return (millions(alias.parameters), alias.stacks, *memory, f"{alias.context_window:,}", chat, alias.licence)


def _as_json(alias: Alias) -> dict[str, Any]:
    from dataclasses import asdict

    memory = {precision: alias.weight_bytes(precision) for precision in _PRECISIONS}
    return {**asdict(alias), "size_class": alias.size_class, "weight_bytes": memory}
