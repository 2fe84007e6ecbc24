"""The life cycle of a use case as a program: germinal.toml, plan, steps, runner, leaderboard, report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from germinal.project.project import Project

__all__ = ["Project"]


def __getattr__(name: str) -> Any:
    # Lazy: reading a project file needs no database and no torch.
    if name == "Project":
        from germinal.project.project import Project

        return Project
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
