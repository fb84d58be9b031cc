"""A record of every attempt, which admins may read of anybody's job; and files of first attempts that lost are found.

Revision ID: 0011
"""

from __future__ import annotations

from alembic import op
from sqlalchemy import text

from migrations.walls import window

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

# What ended before has no records: nobody knows what is not in the row. A job that never ended anything but well is in
# no index of orphans, and so its claim and its end cost what they cost before.
COLUMN = """
ALTER TABLE jobs ADD COLUMN attempts jsonb NOT NULL DEFAULT '[]'::jsonb;
CREATE INDEX jobs_orphans ON jobs (finished_at)
    WHERE finished_at IS NOT NULL AND (attempt > 1 OR (attempt = 1 AND result_attempt IS NULL));
DROP INDEX jobs_retried;
"""
NO_COLUMN = """
CREATE INDEX jobs_retried ON jobs (finished_at) WHERE attempt > 1;
DROP INDEX jobs_orphans;
ALTER TABLE jobs DROP COLUMN attempts;
"""

# Past the wall, and past nothing else of the job: what it asked for and what it made stay its owner's.
ATTEMPTS = (
    "job_attempts(id uuid)",
    "jsonb",
    "SELECT attempts FROM jobs WHERE jobs.id = $1 AND deleted_at IS NULL",
)


def upgrade() -> None:
    op.execute(COLUMN)
    schema = op.get_bind().execute(text("SELECT quote_ident(current_schema())")).scalar_one()
    op.execute(window(schema, *ATTEMPTS))


def downgrade() -> None:
    op.execute("DROP FUNCTION job_attempts")
    op.execute(NO_COLUMN)
