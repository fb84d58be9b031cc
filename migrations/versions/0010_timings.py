"""How long a family's jobs took lately, over all owners, answered with numbers.

Revision ID: 0010
"""

from __future__ import annotations

from alembic import op
from sqlalchemy import text

from migrations.walls import window

revision = "0010"
down_revision = "0008"
branch_labels = None
depends_on = None

# Ids begin with their milliseconds, so that the newest rows of all families are a range of the primary key: at most
# `most` of them are looked at, and `whole` tells whether these were all.
TIMINGS = (
    "job_timings(family text, seconds float8, most integer)",
    """TABLE (completed bigint, failed bigint, whole boolean, computing float8, p50 float8, p95 float8, p99 float8)""",
    """WITH recent AS (
        SELECT jobs.family, state, finished_at - created_at AS taken, finished_at - attempt_started_at AS ran FROM jobs
        WHERE id > (lpad(to_hex((1000 * extract(epoch FROM now() - make_interval(secs => $2)))::bigint), 12, '0')
            || repeat('0', 20))::uuid
        ORDER BY id DESC LIMIT $3
    ), done AS (
        SELECT extract(epoch FROM taken)::float8 AS taken, extract(epoch FROM ran)::float8 AS ran FROM recent
        WHERE recent.family = $1 AND state = 'completed'
    )
    SELECT count(*), (SELECT count(*) FROM recent WHERE recent.family = $1 AND state = 'failed'),
        (SELECT count(*) FROM recent) < $3, coalesce(sum(ran), 0), percentile_cont(0.5) WITHIN GROUP (ORDER BY taken),
        percentile_cont(0.95) WITHIN GROUP (ORDER BY taken), percentile_cont(0.99) WITHIN GROUP (ORDER BY taken)
    FROM done""",
)
COMPLETED = (
    "jobs_completed(family text)",
    "bigint",
    "SELECT coalesce(sum(completed), 0)::bigint FROM usage_days WHERE usage_days.family = $1",
)


def upgrade() -> None:
    schema = op.get_bind().execute(text("SELECT quote_ident(current_schema())")).scalar_one()
    for signature, returns, query in (TIMINGS, COMPLETED):
        op.execute(window(schema, signature, returns, query))


def downgrade() -> None:
    op.execute("DROP FUNCTION job_timings")
    op.execute("DROP FUNCTION jobs_completed")
