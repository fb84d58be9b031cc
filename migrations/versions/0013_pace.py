"""How soon a family has room again, over all owners, answered with numbers.

Revision ID: 0013
"""

from __future__ import annotations

from alembic import op
from sqlalchemy import text

from migrations.walls import window

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

# The days of usage know what attempts held workers for, lost ones too; yesterday's count as well, because a day is
# young once. A job that was cancelled in the queue held nobody.
PACE = (
    "job_pace(family text, alive float8)",
    "TABLE (seconds float8, workers bigint, queued bigint)",
    """SELECT
        (SELECT sum(gpu_seconds) / nullif(sum(completed + failed), 0) FROM usage_days
         WHERE usage_days.family = $1 AND day >= (now() AT TIME ZONE 'UTC')::date - 1)::float8,
        (SELECT count(*) FROM workers
         WHERE $1 = ANY (families) AND state = 'ready' AND seen_at > now() - make_interval(secs => $2)),
        (SELECT count(*) FROM jobs WHERE state = 'queued' AND jobs.family = $1)""",
)


def upgrade() -> None:
    schema = op.get_bind().execute(text("SELECT quote_ident(current_schema())")).scalar_one()
    op.execute(window(schema, *PACE))


def downgrade() -> None:
    op.execute("DROP FUNCTION job_pace")
