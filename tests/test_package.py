"""What the package promises of itself: quick imports, pinned dependencies, no way to a peer."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import germinal

ROOT = Path(__file__).parent.parent
HEAVY = {"torch", "numpy", "pandas", "sklearn", "scipy", "sqlalchemy", "pydantic", "altair", "fastapi", "tokenizers"}
PEERS = {"transformers", "peft", "accelerate", "sentence_transformers", "statsmodels"}


def imported_by(code: str) -> set[str]:
    """The top-level modules that a fresh interpreter holds after running some code."""
    report = "import sys, json; print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    finished = subprocess.run(
        [sys.executable, "-c", f"{code}\n{report}"], capture_output=True, text=True, check=True, timeout=120
    )
    return set(json.loads(finished.stdout.splitlines()[-1]))


def test_import_germinal_imports_nothing_heavy() -> None:
    modules = imported_by("import germinal")
    assert modules & (HEAVY | PEERS | {"typer", "rich"}) == set()


def test_the_help_imports_nothing_heavy() -> None:
    code = """
import contextlib, io
from germinal.cli.main import main
with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
    main(["--help"])
"""
    assert imported_by(code) & (HEAVY | PEERS) == set()


def test_the_help_of_every_command_imports_nothing_heavy() -> None:
    code = """
import contextlib, io
from germinal.cli.main import app, main
names = [command.name or command.callback.__name__ for command in app.registered_commands]
for arguments in [["--version"], *([name, "--help"] for name in names)]:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
        main(arguments)
"""
    assert imported_by(code) & (HEAVY - {"pydantic"} | PEERS) == set()  # typer reads option values with pydantic


@pytest.mark.parametrize("name", [name for name in germinal.__all__ if name != "__version__"])
def test_every_public_name_can_be_had(name: str) -> None:
    assert getattr(germinal, name) is not None
    assert name in dir(germinal)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nothing_of_the_kind"):
        germinal.nothing_of_the_kind  # noqa: B018


def test_the_version_is_one() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert declared == germinal.__version__ == version("germinal")


def constraints() -> dict[str, Version]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = (line.split("==") for line in lines if line and not line.startswith("#"))
    return {canonicalize_name(name): Version(pinned) for name, pinned in pairs}


def is_installed(name: str) -> bool:
    try:
        return bool(version(name))
    except PackageNotFoundError:
        return False


def test_every_dependency_is_pinned_within_its_range_with_all_that_it_needs() -> None:
    pins = constraints()
    environment = {"extra": ""}
    wanted = [Requirement(line) for line in requires("germinal") or []]
    of_bench = {each.name for each in wanted if each.marker and 'extra == "bench"' in str(each.marker)}
    seen: set[str] = set()
    while wanted:
        requirement = wanted.pop()
        name = canonicalize_name(requirement.name)
        if name in {"germinal", "pip"} or name in seen:  # pip came with the virtual environment
            continue
        seen.add(name)
        assert name in pins, f"{requirement} is not pinned in constraints.txt"
        assert requirement.specifier.contains(pins[name], prereleases=True), f"{requirement} excludes {pins[name]}"
        if name in of_bench and not is_installed(name):  # the checks do without what only measurements need
            continue
        for line in requires(requirement.name) or []:
            needed = Requirement(line)
            if needed.marker is None or needed.marker.evaluate(environment):
                wanted.append(needed)
    assert {"torch", "transformers", "fastapi", "pytest"} <= seen


def test_the_pinned_torch_accepts_a_build_for_any_device() -> None:
    pin = Requirement("torch==" + str(constraints()["torch"]))
    assert pin.specifier.contains(Version(f"{constraints()['torch']}+cpu"))


def test_nothing_names_a_registry_or_a_folder_of_ours() -> None:
    """A clone must not depend on where it was written."""
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    suspicious = re.compile(r"(--(extra-)?index-url|find-links|file://)")
    found = []
    for name in tracked:
        if (
            Path(name).suffix in {".py", ".toml", ".txt", ".yaml", ".md", ".ini", ""}
            and name != "tests/test_package.py"
        ):
            text = (ROOT / name).read_text(encoding="utf-8", errors="ignore")
            allowed = text.replace("--index-url https://download.pytorch.org/whl/cpu", "")
            found += [f"{name}: {match[0]}" for match in suspicious.finditer(allowed)]
    assert found == []
