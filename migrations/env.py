"""Alembic's entry: one transaction for all steps, under an advisory lock so that two starters do not collide."""

from __future__ import annotations

from alembic import context
from sqlalchemy import create_engine, pool, text

import shared.accounts.table
import shared.breakers.table
import shared.catalog.table
import shared.fleet.table
import shared.jobs.table
import shared.uploads.table
import shared.usage.table
import shared.webhooks.table  # noqa: F401  (registers the tables)
from shared.database import Base, sqlalchemy_url
from shared.settings import get_settings

MIGRATION_LOCK = 6_201_001

engine = create_engine(sqlalchemy_url(get_settings().database_url), poolclass=pool.NullPool)
with engine.connect() as connection:
    context.configure(connection=connection, target_metadata=Base.metadata)
    with context.begin_transaction():
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": MIGRATION_LOCK})
        context.run_migrations()
engine.dispose()
