"""No two files of the package import each other, however long the way round.

import-linter holds the floors of the house; inside one package it lets a circle pass. Here every import counts: those
inside functions, which would only hide a circle, and those for type checkers, whose reader has to go round it as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from pathlib import Path

import grimp
import pytest


def imports_of(package: str) -> dict[str, set[str]]:
    """Each module of an installed package with the modules of the package that it imports."""
    graph = grimp.build_graph(package, exclude_type_checking_imports=False, cache_dir=None)
    return {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}


def circle(imports: Mapping[str, Iterable[str]]) -> list[str]:
    """The modules of one circle, each importing the next and the last the first again; nothing where there is none."""
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        imported_first: list[str] = error.args[1]
        return imported_first[::-1]
    return []


def test_no_file_imports_in_a_circle() -> None:
    found = circle(imports_of("germinal"))
    assert not found, "a circle of imports: " + "\n    imports ".join(found)


@pytest.mark.parametrize(
    "hidden",
    [
        "from planted.first import a",
        "def later():\n    from planted.first import a",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from planted.first import a",
    ],
    ids=["plain", "inside a function", "for type checkers"],
)
def test_a_circle_is_found(hidden: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "planted"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "first.py").write_text("from planted.second import b\na = 1\n")
    (package / "second.py").write_text("from planted.third import c\nb = 1\n")
    (package / "third.py").write_text(f"{hidden}\n")
    monkeypatch.syspath_prepend(tmp_path)
    found = circle(imports_of("planted"))
    assert found[0] == found[-1]
    assert set(pairwise(found)) == {
        ("planted.first", "planted.second"),
        ("planted.second", "planted.third"),
        ("planted.third", "planted.first"),
    }
    (package / "third.py").write_text("c = 1\n")
    assert circle(imports_of("planted")) == []
