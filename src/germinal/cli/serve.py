"""`germinal serve`: a project's winner, or a model, behind OpenAI's interface."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from germinal.cli.inputs import load
from germinal.cli.options import AdapterOption, PrecisionOption, QuietOption
from germinal.errors import SettingError

if TYPE_CHECKING:
    from germinal.serving.service import Service


def serve(
    target: Annotated[
        str, typer.Argument(metavar="PROJECT | MODEL", help="What to serve.", show_default="this folder's project")
    ] = ".",
    host: Annotated[
        str, typer.Option(metavar="HOST", help="The address to listen on; by default, of this machine only.")
    ] = ("127.0.0.1"),
    port: Annotated[int, typer.Option(min=0, max=65535, metavar="PORT", help="0 takes any free one.")] = 8000,
    api_key_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="API keys, one per line; a client has to send one of them.")
    ] = None,
    precision: PrecisionOption = None,
    adapter: AdapterOption = None,
    quiet: QuietOption = False,
) -> None:
    """Serve the winner of a project, or a model, as /v1/chat/completions with streaming.

    A project's clients send bare inputs; prompt, shots, adapter and answer rule are applied here.
    """
    from germinal.cli.views.console import stderr
    from germinal.serving import serve as listen

    listen(
        lambda: _service(target, precision=precision, adapter=adapter, quiet=quiet),
        host=host,
        port=port,
        api_key_file=api_key_file,
        on_ready=lambda url: stderr.print(f"Serving at {url} (Ctrl-C ends it)", soft_wrap=True),
    )


def _service(target: str, *, precision: str | None, adapter: Path | None, quiet: bool) -> Service:
    from germinal.cli.views.console import stderr

    if not _is_project(target):
        from germinal.serving import ModelService

        lm = load(target, precision=precision, adapter=adapter, quiet=quiet)
        stderr.print(f"{lm.card.name}, {lm.precision}", style="dim")
        return ModelService(lm)
    for name, value in (("--precision", precision), ("--adapter", adapter)):
        if value is not None:
            raise SettingError("has no effect on a project, whose winner has its own.", where=name)
    from germinal.project import Project
    from germinal.project.board.sentences import answering
    from germinal.serving import PredictorService

    project = Project(target)
    service = PredictorService(project.winner(), name=project.folder.name)
    stderr.print(answering(project.ledger.results()), soft_wrap=True)
    return service


def _is_project(target: str) -> bool:
    """This folder, a project file, or a folder with one; everything else is a model."""
    path = Path(target)
    return target == "." or path.suffix == ".toml" or (path / "germinal.toml").is_file()
