"""Files that lie in storage before their job's row does: if that never comes, they are found by this one.

Revision ID: 0015
"""

from __future__ import annotations

from alembic import op

from migrations.walls import BY_OWNER, GATEWAY, wall

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

TABLE = f"""
CREATE TABLE arriving_files (
    job_id uuid PRIMARY KEY,
    owner  text NOT NULL,
    since  timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX arriving_files_age ON arriving_files (since);
GRANT SELECT, DELETE, INSERT (job_id, owner) ON arriving_files TO {GATEWAY};
"""


def upgrade() -> None:
    op.execute(TABLE)
    op.execute(wall("arriving_files", BY_OWNER))


def downgrade() -> None:
    op.execute("DROP TABLE arriving_files")
