"""A project of somebody else: read without a trace, and whatever its ledger holds, an error that names it."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from tiny_project import TOML, review, write_rows

from germinal.errors import GerminalError, LedgerError, UnsafeFileError
from germinal.ledger import Ledger
from germinal.project import Project
from germinal.project.board.comparison import compare
from germinal.project.board.report import report_html

ONE_MODEL = (
    ("shots = [0, 2]", "shots = [0]"),
    ('["generate", "likelihood", "calibrated"]', '["likelihood"]'),
    ("[adapt.lora]\nrank = 2\nmicro_batch_size = 4\nlearning_rate = 0.01\n", ""),
)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """A project that was run to its end, to be copied."""
    folder = tmp_path_factory.mktemp("done") / "project"
    folder.mkdir()
    text = TOML.format(model=tiny_model)
    for old, new in ONE_MODEL:
        text = text.replace(old, new)
    (folder / "germinal.toml").write_text(text, encoding="utf-8")
    write_rows(folder / "reviews.csv", [review(number) for number in range(90)])
    Project(folder).run()
    return folder


@pytest.fixture
def copy(done: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(done, tmp_path / "copy"))


READERS: dict[str, Callable[[Project], object]] = {
    "leaderboard": lambda project: project.leaderboard(),
    "report": lambda project: report_html(project.ledger),
    "compare": lambda project: compare(project.ledger, "majority", "tfidf"),
    "why": lambda project: project.why("tfidf"),
    "plan": lambda project: project.plan(),
    "predict": lambda project: project.winner().predict(["good film"]),
    "predictor": lambda project: project.predictor(_model_trial(project)).predict(["good film"]),
}


def _model_trial(project: Project) -> str:
    return next(trial.id for trial in project.ledger.results().trials if "/" in trial.id)


def state(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    return {
        str(path.relative_to(folder)): (
            path.lstat().st_mtime_ns,
            path.lstat().st_mode,
            path.read_bytes() if path.is_file() else b"",
        )
        for path in sorted(folder.rglob("*"))
    }


def test_to_read_a_project_changes_no_file_in_it(copy: Path) -> None:
    before = state(copy)
    for read in READERS.values():
        read(Project(copy))
    assert state(copy) == before


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root can become somebody else")
def test_a_project_that_one_may_only_read_is_read(done: Path) -> None:
    folder = Path("/tmp") / f"germinal-read-only-{os.getpid()}"  # other users may not enter pytest's folders
    shutil.copytree(done, folder)
    try:
        for path in [folder, *folder.rglob("*")]:
            path.chmod(0o555 if path.is_dir() else 0o444)
        before = state(folder)
        script = (
            "import os, sys\n"
            "from germinal.project import Project\n"
            "from germinal.project.board.report import report_html\n"
            "def read():\n"
            "    project = Project(sys.argv[1])\n"
            "    shown = len(report_html(project.ledger)) > 1000\n"
            "    return project.leaderboard().run.id, shown, project.why('tfidf').since\n"
            "read()  # imports what another user may not\n"
            "os.setgid(65534); os.setuid(65534)\n"
            "print(*read())\n"
        )
        told = subprocess.run([sys.executable, "-c", script, str(folder)], capture_output=True, text=True)
        assert told.stdout.split() == ["1", "True", "1"], told.stderr + "\n" + told.stdout
        assert state(folder) == before
    finally:
        for path in [folder, *folder.rglob("*")]:
            path.chmod(0o755)
        shutil.rmtree(folder)


def test_what_a_killed_writer_left_is_read_and_stays(copy: Path) -> None:
    file = copy / ".germinal" / "ledger.sqlite"
    shutil.copytree(copy, copy.with_name("killed"))
    killed = copy.with_name("killed") / ".germinal" / "ledger.sqlite"
    with closing(sqlite3.connect(file)) as writer:
        writer.execute("UPDATE test_looks SET trial_id = 'changed'")
        writer.commit()
        for end in ("", "-wal"):  # as they lie there when the writer is killed
            shutil.copyfile(f"{file}{end}", f"{killed}{end}")
        assert Ledger.read(file).test_looks() == 1  # and while it writes
    before = state(killed.parent)
    assert before["ledger.sqlite-wal"][2]
    with Ledger.read(killed).engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT DISTINCT trial_id FROM test_looks").all() == [("changed",)]
    assert Project(killed.parent.parent).leaderboard().run.id == 1
    assert state(killed.parent) == before


def test_a_project_that_never_ran_is_planned_without_a_trace(copy: Path) -> None:
    shutil.rmtree(copy / ".germinal")
    project = Project(copy)
    assert {step.state for step in project.plan().steps} == {"run", "depends"}
    with pytest.raises(LedgerError, match="no run is finished"):
        project.leaderboard()
    assert not (copy / ".germinal").exists()
    project.run(limit=2)
    assert project.leaderboard().run.limit == 2  # the same project sees what it did


@pytest.mark.parametrize("place", ["{outside}", "../outside", "leads-out"])
def test_an_artifact_that_lies_elsewhere_is_refused(copy: Path, place: str) -> None:
    """Somebody's ledger must not make `predict` answer with a file of its choice."""
    artifacts = copy / ".germinal" / "artifacts"
    (fitted,) = (
        artifacts.glob("fit-*") if len(list(artifacts.glob("fit-*"))) == 1 else sorted(artifacts.glob("fit-*"))[:1]
    )
    outside = artifacts.parent / "outside"
    shutil.copytree(fitted, outside)
    (artifacts / "leads-out").symlink_to(outside)
    change(copy, "UPDATE steps SET artifact = ? WHERE kind IN ('fit', 'data')", place.format(outside=outside))
    for name in ("predict", "plan", "predictor"):
        with pytest.raises(UnsafeFileError, match="leaves the folder"):
            READERS[name](Project(copy))


def test_a_link_inside_an_artifact_that_leads_out_is_refused(copy: Path) -> None:
    for file in (copy / ".germinal" / "artifacts").glob("fit-*/predictor.json"):
        moved = copy / file.parent.name
        file.rename(moved)
        file.symlink_to(moved)
    with pytest.raises(UnsafeFileError, match="leaves the folder"):
        Project(copy).winner()


def truncated(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2 + 1000)


def directory(file: Path) -> None:
    file.unlink()
    file.mkdir()


def pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def of_another_program(file: Path) -> None:
    file.unlink()
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("CREATE TABLE bookmarks (url TEXT)")


def without_a_table(file: Path) -> None:
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("DROP TABLE measurements")


@pytest.mark.parametrize("damage", [truncated, directory, pipe, of_another_program, without_a_table])
def test_what_is_no_whole_ledger_is_said_and_left_as_it_is(copy: Path, damage: Callable[[Path], None]) -> None:
    file = copy / ".germinal" / "ledger.sqlite"
    damage(file)
    before = state(copy)
    with pytest.raises(LedgerError, match=r"ledger\.sqlite.* (ledger|damaged|regular file)") as error:
        Project(copy).leaderboard()
    assert error.value.hint
    assert state(copy) == before
    if damage in (directory, pipe, of_another_program):
        with pytest.raises(LedgerError, match=r"ledger\.sqlite"):
            Project(copy).run()


def test_a_report_goes_to_standard_output(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from germinal.cli.main import main

    before = state(copy)
    with pytest.raises(SystemExit):
        main(["report", str(copy), "-o", "-"])
    assert capsys.readouterr().out.rstrip().endswith("</html>")
    assert state(copy) == before


def change(folder: Path, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(folder / ".germinal" / "ledger.sqlite")) as connection:
        connection.execute(statement, values)
        connection.commit()


def columns() -> Iterator[tuple[str, str]]:
    from germinal.ledger.tables import Base

    for table in Base.metadata.sorted_tables:
        for column in table.columns:
            yield table.name, column.name


JUNK = ["{", "[]", '{"a": {"b": 1}}', "[" * 3000 + "]" * 3000, b"\xff\x00", -5, "text", None]


def test_no_value_in_any_column_ends_in_anything_but_an_error_that_names_the_ledger(copy: Path) -> None:
    file, before = copy / ".germinal" / "ledger.sqlite", (copy / ".germinal" / "ledger.sqlite").read_bytes()
    wrong = []
    for number, (table, column) in enumerate(columns()):
        for place in range(3 * number, 3 * number + 3):  # each column three of them, each of them many columns
            junk = JUNK[place % len(JUNK)]
            try:
                change(copy, f'UPDATE "{table}" SET "{column}" = ?', junk)
            except sqlite3.Error:
                continue  # the database itself does not take it
            name = ("leaderboard", "compare", "why")[place % 3]
            case = f"{name} with {table}.{column} = {str(junk)[:20]!r}"
            try:
                READERS[name](Project(copy))
            except LedgerError as error:
                if "ledger.sqlite" not in str(error):
                    wrong.append(f"{case} does not name it: {error}")
            except GerminalError:
                pass  # it names the file that the ledger led to
            except Exception as error:
                wrong.append(f"{case}: {error!r}")
            file.write_bytes(before)
    assert not wrong, "\n".join(wrong)
