"""The catalog: what each model is, how large, whether it may be used; and what is on its way here.

Revision ID: 0007
"""

from __future__ import annotations

from alembic import op
from sqlalchemy import text

from migrations.walls import GATEWAY, window

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

COLUMNS = {
    "task": "text",
    "source": "text NOT NULL DEFAULT 'folder'",
    "repository": "text",
    "revision": "text",
    "files": "jsonb NOT NULL DEFAULT '[]'::jsonb",
    "size_bytes": "bigint",
    "licence": "text",
    "parameters": "bigint",
    "dtype": "text",
    "memory_bytes": "bigint",
    "settings": "jsonb NOT NULL DEFAULT '{}'::jsonb",
    "disabled": "boolean NOT NULL DEFAULT false",
}

# The last job that was to bring a model of each name. Everybody sees what happens to the models that all share, and
# nobody whose job it is.
FETCHES = (
    "model_fetches()",
    "TABLE (name text, operation text, state text, progress jsonb, error_code text, created_at timestamptz)",
    """SELECT DISTINCT ON (input->>'name') input->>'name', operation, state, progress, error->>'code', created_at
    FROM jobs WHERE family = 'models' AND operation IN ('models.download', 'models.import')
        AND deleted_at IS NULL AND purged IS NULL AND input->>'name' IS NOT NULL
    ORDER BY input->>'name', id DESC""",
)


def upgrade() -> None:
    added = ", ".join(f"ADD COLUMN {name} {kind}" for name, kind in COLUMNS.items())
    op.execute(f"ALTER TABLE models {added}")
    op.execute("CREATE INDEX jobs_models ON jobs (id) WHERE family = 'models'")
    op.execute(f"GRANT UPDATE (disabled), DELETE ON models TO {GATEWAY}")
    schema = op.get_bind().execute(text("SELECT quote_ident(current_schema())")).scalar_one()
    op.execute(window(schema, *FETCHES))


def downgrade() -> None:
    op.execute("DROP FUNCTION model_fetches")
    op.execute(f"REVOKE UPDATE (disabled), DELETE ON models FROM {GATEWAY}")
    op.execute("DROP INDEX jobs_models")
    op.execute(f"ALTER TABLE models {', '.join(f'DROP COLUMN {name}' for name in COLUMNS)}")
