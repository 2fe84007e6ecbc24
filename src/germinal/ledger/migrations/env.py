"""Alembic's environment: migrates the connection that `germinal.ledger.database` passes in."""

from __future__ import annotations

from alembic import context

from germinal.ledger.tables import Base

connection = context.config.attributes["connection"]
# render_as_batch: SQLite supports few ALTER operations, so Alembic copies the table instead.
context.configure(connection=connection, target_metadata=Base.metadata, render_as_batch=True, transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
