"""Deliveries are found by their job: a job that its owner deleted goes without a look at everybody's deliveries.

Revision ID: 0014
"""

from __future__ import annotations

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("CREATE INDEX deliveries_job ON deliveries (job_id)")


def downgrade() -> None:
    op.execute("DROP INDEX deliveries_job")
