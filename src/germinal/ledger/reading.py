"""Opening a ledger to read it: no file is created or changed, so that a project that one may only read can be read.

SQLite in WAL mode keeps two more files beside a database that is in use, and to read it is to write in them. So a
ledger that nobody has open is read as a file that does not change, one in use through the files that its writer made,
and one that a killed writer left through a copy in memory.
"""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from contextlib import closing
from functools import partial
from pathlib import Path

from sqlalchemy import Engine
from sqlalchemy.pool import NullPool, StaticPool

from germinal.errors import LedgerError
from germinal.ledger.database import BUSY_SECONDS, make_engine, migrate, revision, sqlite_file
from germinal.ledger.tables import Base


def open_to_read(location: str | Path) -> Engine:
    """An engine over a ledger that is only read. One that is not there is read as one without runs.

    An older schema is brought up to date in memory.

    Args:
        location: A file (SQLite) or a database URL.

    Raises:
        LedgerError: it was written by a newer version of germinal, or is not a ledger.
    """
    text = str(location)
    file = sqlite_file(text)
    if file is None:
        return make_engine(text, text, execution_options={"postgresql_readonly": True})
    if not file.exists() or (file.is_file() and not file.stat().st_size):
        return _empty(text)
    for each in (file, *_beside(file)):
        if each.exists() and not each.is_file():
            raise LedgerError("is not a regular file.", where=str(each), hint="Move it away.")
    engine = make_engine(text, "sqlite://", creator=partial(_connect, file), poolclass=NullPool)
    found = revision(engine, text)
    if found.missing:
        return _empty(text)
    if found.current:
        return engine
    return _migrated(_in_memory(text, _copy(file)), text)


def _empty(location: str) -> Engine:
    engine = _in_memory(location, sqlite3.connect(":memory:", check_same_thread=False))
    Base.metadata.create_all(engine)
    return engine


def _migrated(engine: Engine, location: str) -> Engine:
    migrate(engine, location)
    return engine


def _in_memory(location: str, connection: sqlite3.Connection) -> Engine:
    return make_engine(location, "sqlite://", creator=lambda: connection, poolclass=StaticPool)


def _beside(file: Path) -> tuple[Path, Path]:
    """The two files of WAL mode: the changes that are not in the database yet, and the index of these."""
    return file.with_name(f"{file.name}-wal"), file.with_name(f"{file.name}-shm")


def _connect(file: Path) -> sqlite3.Connection:
    if not any(each.exists() for each in _beside(file)):
        return _opened(file, "immutable=1")
    try:
        return _opened(file, "readonly_shm=1")
    except sqlite3.OperationalError:  # nobody has it open, and the index is not of the last change
        return _copy(file)


def _opened(file: Path, how: str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"{file.absolute().as_uri()}?mode=ro&{how}", uri=True, timeout=BUSY_SECONDS, check_same_thread=False
    )
    try:
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _copy(file: Path) -> sqlite3.Connection:
    """The database in memory, with the changes that a killed writer left beside it."""
    memory = sqlite3.connect(":memory:", check_same_thread=False)
    with tempfile.TemporaryDirectory() as place:
        for each in (file, _beside(file)[0]):
            if each.exists():
                shutil.copyfile(each, Path(place) / each.name)
        with closing(sqlite3.connect(Path(place) / file.name)) as copied:
            copied.backup(memory)
    return memory
