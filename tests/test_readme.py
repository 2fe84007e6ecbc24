"""README.md does what it says: its commands parse, the outputs it shows are the real ones, its Python runs."""

from __future__ import annotations

import contextlib
import inspect
import io
import re
import runpy
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.main import get_command

from germinal.cli.main import app, main

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """The code blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


def commands() -> Iterator[tuple[list[str], str]]:
    """Every command of the console blocks with the output that is shown under it."""
    for block in blocks("console"):
        for piece in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            line, _, output = piece.partition("\n")
            yield shlex.split(line.rpartition("| ")[2], comments=True), output


GERMINAL = [(arguments[1:], output) for arguments, output in commands() if arguments[0] == "germinal"]


def test_there_is_something_to_check() -> None:
    assert len(GERMINAL) > 15
    assert {arguments[0] for arguments, _ in GERMINAL} >= {command.name for command in app.registered_commands}
    assert len(blocks("python")) >= 2


@pytest.mark.parametrize("arguments", [arguments for arguments, _ in GERMINAL], ids=" ".join)
def test_a_command_parses(arguments: list[str]) -> None:
    name, *rest = arguments
    command = get_command(app).commands[name]
    command.make_context(name, rest)  # a usage error is an exception


def test_the_other_commands_are_ours_pips_or_scripts_that_are_there() -> None:
    others = [arguments for arguments, _ in commands() if arguments[0] != "germinal"]
    pinned = re.search(r"^torch==.*$", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)
    assert pinned is not None
    assert any(pinned[0] in arguments for arguments in others)
    assert {arguments[0] for arguments in others} <= {"pip", "make", "python"}
    assert all((ROOT / arguments[1]).is_file() for arguments in others if arguments[0] == "python")
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert set(re.findall(r"make ([a-z-]+)", "\n".join(re.findall(r"^    .*|`.*?`", README, re.MULTILINE)))) <= set(
        targets
    )


@pytest.mark.parametrize(
    ("arguments", "output"), [each for each in GERMINAL if each[1].strip()], ids=lambda part: str(part)[:40]
)
def test_a_shown_output_is_the_real_one(arguments: list[str], output: str, smollm2: str, minilm: str) -> None:
    assert {smollm2, minilm} & set(arguments)
    written = io.StringIO()
    with contextlib.redirect_stdout(written), contextlib.suppress(SystemExit):
        main(arguments)
    lines = [[line.rstrip() for line in text.strip().splitlines()] for text in (written.getvalue(), output)]
    assert lines[0] == lines[1]


def test_every_command_is_in_the_table_with_its_own_words() -> None:
    for command in app.registered_commands:
        said = inspect.getdoc(command.callback).split("\n\n")[0].replace("\n", " ")
        assert f"| `germinal {command.name}` | {said} |" in README


def test_the_project_file_is_the_example() -> None:
    example = (ROOT / "examples" / "reviews" / "germinal.toml").read_text(encoding="utf-8")
    assert example in blocks("toml")


def test_the_reference_of_the_project_file_is_current() -> None:
    pages = runpy.run_path(str(ROOT / "docs" / "make_project_file.py"))
    assert pages["PAGE"].read_text(encoding="utf-8") == pages["page"](), "run: python docs/make_project_file.py"


def test_links_and_pictures_are_there() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        if not target.startswith("http") and target != "bench/RESULTS.md":  # `make bench` writes that one
            assert (ROOT / target).exists(), target


def test_the_python_runs(smollm2: str, minilm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a copy of the example with the plain baselines only: a run of all its trials takes minutes."""
    example = tmp_path / "examples" / "reviews"
    shutil.copytree(ROOT / "examples" / "reviews", example, ignore=shutil.ignore_patterns(".germinal", "report.html"))
    file = example / "germinal.toml"
    text = re.sub(r"^models .*$", "models = []", file.read_text(encoding="utf-8"), flags=re.MULTILINE)
    file.write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    written = io.StringIO()
    with contextlib.redirect_stdout(written):
        exec(compile("\n".join(blocks("python")), "README.md", "exec"), {"__name__": "readme"})
    shown = written.getvalue()
    assert " Positive" in shown
    assert "Paris" in shown
    assert "tfidf" in shown
    assert (tmp_path / "winner").is_dir()
