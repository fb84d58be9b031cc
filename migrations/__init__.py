"""The database's schema, one file a step (Alembic)."""
