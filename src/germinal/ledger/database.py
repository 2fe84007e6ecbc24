"""Opening the database, SQLite in WAL mode or PostgreSQL by URL, and migrating it to the current schema with Alembic.

No other module depends on which database it is.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Engine, Table, create_engine, event, inspect
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import DBAPIError

from germinal.errors import LedgerError, StorageError, listed
from germinal.files import parse_json

if TYPE_CHECKING:
    from alembic.config import Config

BUSY_SECONDS = 30
_RESTORE = "Move it away, or restore it from a backup."


def open_database(location: str | Path) -> Engine:
    """An engine over a ledger with the current schema; a missing ledger is created.

    Args:
        location: A file (SQLite) or a database URL.

    Raises:
        LedgerError: it was written by a newer version of germinal, or is not a ledger.
        StorageError: the disk is full or the file cannot be written.
    """
    text = str(location)
    file = sqlite_file(text)
    if file is not None:
        _make_folder(file.parent)
        if file.exists() and not file.is_file():
            raise LedgerError("is not a regular file.", where=text, hint="Move it away.")
    engine = make_engine(text, text if "://" in text else f"sqlite:///{file}")
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
    migrate(engine, text)
    return engine


def sqlite_file(location: str) -> Path | None:
    """The file of a ledger; None for another database, or one in memory."""
    if "://" not in location:
        return Path(location).absolute()
    if not location.startswith("sqlite:///") or ":memory:" in location:
        return None
    return Path(location.removeprefix("sqlite:///")).absolute()


def make_engine(location: str, url: str, **settings: Any) -> Engine:
    """An engine whose errors name the ledger; `settings` are those of SQLAlchemy's `create_engine`."""
    reader = partial(parse_json, where=location, error=LedgerError)
    engine = create_engine(url, json_deserializer=reader, **settings)
    event.listen(engine, "handle_error", _translate(location))
    return engine


def insert_new(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows, except those whose primary key already exists."""
    if not rows:
        return
    dialects: dict[str, Any] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}
    if connection.dialect.name not in dialects:
        raise LedgerError(
            f"a {connection.dialect.name} database cannot hold a ledger.", hint="Use SQLite or PostgreSQL."
        )
    connection.execute(dialects[connection.dialect.name](table).on_conflict_do_nothing(), list(rows))


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"cannot be created: {error.strerror or error}.", where=str(folder)) from error


def _prepare_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {BUSY_SECONDS * 1000}")
    _write_ahead(cursor)
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _write_ahead(cursor: sqlite3.Cursor) -> None:
    """Turn on WAL mode, retrying while another connection holds the write lock.

    SQLite refuses the change of mode at once in that case, whatever its busy timeout.
    """
    until = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
        time.sleep(0.01)


def _translate(location: str) -> Any:
    """A handler that turns what a user can cause into errors of germinal; bugs stay SQLAlchemy's exceptions."""

    def handle(context: ExceptionContext) -> None:
        message = str(context.original_exception)
        if "disk is full" in message or "disk I/O error" in message or "No space left" in message:
            raise StorageError(
                "the disk is full; nothing was replaced.", where=location, hint="Free some space and run again."
            )
        if "readonly" in message or "unable to open" in message:
            raise StorageError(f"cannot be written: {message}.", where=location)
        if "no such table" in message or "no such column" in message:
            raise LedgerError(f"is not a whole ledger: {message}.", where=location, hint=_RESTORE)
        if "not a database" in message or "malformed" in message:
            raise LedgerError(f"is not a ledger: {message}.", where=location, hint=_RESTORE)
        if "database is locked" in message:
            raise LedgerError(f"was locked by another process for {BUSY_SECONDS} s.", where=location)

    return handle


@dataclass(frozen=True, slots=True)
class Revision:
    """The schema of a database: it may be `missing`, as of a new ledger, be `current`, or be an older one."""

    missing: bool
    current: bool


def revision(engine: Engine, location: str) -> Revision:
    """The schema of a database.

    Raises:
        LedgerError: it was written by a newer version of germinal, or is not a ledger.
    """
    with _opening(location), engine.connect() as connection:
        return _revision(connection, location)


def migrate(engine: Engine, location: str) -> None:
    """Run the migrations that a database lacks; errors are those of `revision`."""
    from alembic import command

    with _opening(location), engine.begin() as connection:
        if engine.dialect.name == "sqlite":
            connection.exec_driver_sql(
                "BEGIN IMMEDIATE"
            )  # two processes that open a new ledger at the same time migrate it only once
        if not _revision(connection, location).current:
            config = _alembic()
            config.attributes["connection"] = connection
            command.upgrade(config, "head")


def _revision(connection: Connection, location: str) -> Revision:
    from alembic.runtime.migration import MigrationContext
    from alembic.script import ScriptDirectory

    scripts = ScriptDirectory.from_config(_alembic())
    current = MigrationContext.configure(connection).get_current_revision()
    if current is None and (tables := inspect(connection).get_table_names()):
        raise LedgerError(
            f"is not a ledger: it is a database with the tables {listed(tables)}.", where=location, hint=_RESTORE
        )
    if current is not None and current not in {script.revision for script in scripts.walk_revisions()}:
        raise LedgerError(
            f"was written by a newer version of germinal (schema {current}).",
            where=location,
            hint="Upgrade germinal, or use another folder.",
        )
    return Revision(missing=current is None, current=current == scripts.get_current_head())


def _alembic() -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    return config


@contextmanager
def _opening(location: str) -> Iterator[None]:
    try:
        yield
    except DBAPIError as error:
        raise LedgerError(f"cannot be opened: {error.orig}.", where=location, hint=_RESTORE) from error
