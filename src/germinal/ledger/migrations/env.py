"""Alembic's entry: it migrates the connection that `germinal.ledger.database` hands over."""

from __future__ import annotations

from alembic import context

from germinal.ledger.tables import Base

connection = context.config.attributes["connection"]
# render_as_batch: SQLite cannot alter most things in place; Alembic then copies the table.
context.configure(connection=connection, target_metadata=Base.metadata, render_as_batch=True, transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
