"""Walls: row-level security under the owner that every statement of the gateway names (docs/decisions/0004).

Revision ID: 0006
"""

from __future__ import annotations

from alembic import op
from sqlalchemy import text

from migrations.walls import ALL_ACCOUNTS, BY_OWNER, BY_USER, GATEWAY, OWNERS, make_role, no_wall, wall, window

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

# Table → whose rows are shown.
WALLS = {
    "jobs": BY_OWNER,
    "idempotency_keys": BY_OWNER,
    "webhooks": BY_OWNER,
    "webhook_secrets": BY_OWNER,
    "job_webhooks": BY_OWNER,
    "deliveries": BY_OWNER,
    "uploads": BY_OWNER,
    "upload_parts": "EXISTS (SELECT FROM uploads WHERE uploads.id = upload_id)",  # by its key; uploads has its own wall
    "usage_now": BY_OWNER,
    "usage_days": BY_OWNER,
    "usage_requests": BY_OWNER,
    "users": f"id::text = ANY ({OWNERS}) OR {ALL_ACCOUNTS}",
    "sessions": BY_USER,
    "api_keys": f"{BY_USER} OR {ALL_ACCOUNTS}",
    "stream_tickets": BY_OWNER,
}

# What the gateway's statements need and nothing else: workers run jobs and publish results, the coordinator sends
# what owners are told, operators set tiers.
GRANTS = {
    "jobs": """SELECT, INSERT (id, owner, family, operation, priority, input, deadline_at, turn, stored_bytes),
        UPDATE (state, cancel_requested_at, finished_at, purge_after, purged, deleted_at)""",
    "idempotency_keys": "SELECT, INSERT, DELETE",
    "webhooks": """SELECT, DELETE, INSERT (id, owner, url, events, description),
        UPDATE (url, events, description, updated_at, disabled_at, disabled_reason)""",
    "webhook_secrets": "SELECT, DELETE, INSERT (id, owner, webhook_id, secret), UPDATE (expires_at)",
    "job_webhooks": "SELECT, DELETE, INSERT (job_id, owner, url, events)",
    "deliveries": """SELECT, DELETE, INSERT (owner, webhook_id, type, destination, data),
        UPDATE (state, finished_at, lease_until, next_at, tries_before)""",
    "users": """SELECT, DELETE, UPDATE (password_hash, last_login),
        INSERT (id, username, email, full_name, password_hash, roles, is_verified, tier)""",
    "sessions": "SELECT, DELETE, UPDATE (refresh_id), INSERT (id, user_id, refresh_id, expires_at)",
    "api_keys": """SELECT, DELETE, UPDATE (last_used_at),
        INSERT (id, user_id, prefix, secret_hash, name, scopes, expires_at, requests_per_minute, requests_per_day)""",
    "uploads": """SELECT, INSERT (id, owner, content, name, metadata, length, reserved, expires_at), UPDATE (content, name,
        length, reserved, received, parts, sha256, media_type, expires_at, deleted_at)""",
    "upload_parts": "SELECT, INSERT, DELETE",
    "usage_now": "SELECT",
    "usage_days": "SELECT, DELETE",
    "usage_requests": "SELECT, INSERT, DELETE, UPDATE (requests)",
    "stream_tickets": "INSERT",
    "attempts": "SELECT, INSERT, UPDATE, DELETE",
    "workers": "SELECT",
    "models": "SELECT",
}

TRIGGERS = ("jobs_event", "jobs_usage", "usage_stored")

# The questions that reach over owners, answered with numbers; then those that come before anybody is known.
WINDOWS = (
    (
        "jobs_ahead(family text, priority smallint, turn bigint, id uuid, most integer)",
        "bigint",
        """SELECT count(*) FROM (
        SELECT 1 FROM jobs WHERE state = 'queued' AND family = $1
            AND (priority > $2 OR (priority = $2 AND (turn, id) < ($3, $4))) LIMIT $5) n""",
    ),
    (
        "jobs_queued(family text, most integer)",
        "bigint",
        "SELECT count(*) FROM (SELECT 1 FROM jobs WHERE family = $1 AND state = 'queued' LIMIT $2) n",
    ),
    (
        "turn_served(family text, priority smallint)",
        "bigint",
        "SELECT turn FROM jobs WHERE state = 'queued' AND family = $1 AND priority = $2 ORDER BY turn LIMIT 1",
    ),
    (
        "jobs_live()",
        "TABLE (family text, state text, n bigint)",
        """SELECT family, 'queued', count(*) FROM jobs WHERE state = 'queued' GROUP BY family
        UNION ALL SELECT family, 'running', count(*) FROM jobs WHERE state = 'running' GROUP BY family""",
    ),
    (
        "oldest_queued_seconds()",
        "float8",
        """SELECT coalesce(extract(epoch FROM now() - min(created_at)), 0)::float8
        FROM jobs WHERE state = 'queued'""",
    ),
    (
        "deliveries_due()",
        "TABLE (pending bigint, late float8)",
        """SELECT count(*), coalesce(extract(epoch FROM now() - min(next_at)), 0)::float8
        FROM deliveries WHERE state = 'pending' AND next_at <= now()""",
    ),
    ("has_admin()", "boolean", "SELECT EXISTS (SELECT FROM users WHERE 'admin' = ANY (roles) AND is_active)"),
    (
        "user_of_name(username text)",
        "TABLE (id uuid, password_hash text)",
        "SELECT id, password_hash FROM users WHERE lower(username) = lower($1) AND is_active",
    ),
    (
        "user_of_key(prefix text)",
        """TABLE (key_id uuid, secret_hash bytea, scopes text[], requests_per_minute integer, requests_per_day integer,
    user_id uuid, username text, roles text[], tier text, stored_bytes_quota bigint, gpu_seconds_quota float8, stale boolean)""",
        """SELECT k.id, k.secret_hash, k.scopes, k.requests_per_minute, k.requests_per_day,
        u.id, u.username, u.roles, u.tier, u.stored_bytes_quota, u.gpu_seconds_quota,
        k.last_used_at IS NULL OR k.last_used_at < now() - interval '1 minute'
    FROM api_keys k JOIN users u ON u.id = k.user_id
    WHERE k.prefix = $1 AND (k.expires_at IS NULL OR k.expires_at > now()) AND u.is_active""",
    ),
    (
        "owner_of_ticket(ticket_hash bytea, job_id uuid)",
        "TABLE (owner text)",
        "DELETE FROM stream_tickets WHERE ticket_hash = $1 AND job_id = $2 AND expires_at > now() RETURNING owner",
    ),
)


def upgrade() -> None:
    db = op.get_bind()
    make_role(db)
    schema = db.execute(text("SELECT quote_ident(current_schema())")).scalar_one()
    op.execute(f"GRANT USAGE ON SCHEMA {schema} TO {GATEWAY}")
    for table, shown in WALLS.items():
        op.execute(wall(table, shown))
    for table, rights in GRANTS.items():
        op.execute(f"GRANT {rights} ON {table} TO {GATEWAY}")
    for signature, returns, query in WINDOWS:
        op.execute(window(schema, signature, returns, query))
    # Whoever moves a job writes its events and books its use, whatever rights there are to those tables besides.
    for trigger in TRIGGERS:
        op.execute(f"ALTER FUNCTION {trigger}() SECURITY DEFINER SET search_path = pg_catalog, {schema}, pg_temp")
        op.execute(f"REVOKE ALL ON FUNCTION {trigger} FROM PUBLIC")


def downgrade() -> None:
    """The role stays: other databases of the server may use it."""
    for trigger in TRIGGERS:
        op.execute(f"ALTER FUNCTION {trigger}() SECURITY INVOKER RESET search_path")
        op.execute(f"GRANT EXECUTE ON FUNCTION {trigger} TO PUBLIC")
    for signature, _, _ in WINDOWS:
        op.execute(f"DROP FUNCTION {signature.split('(')[0]}")
    for table in GRANTS:
        op.execute(f"REVOKE ALL ON {table} FROM {GATEWAY}")
    for table in WALLS:
        op.execute(no_wall(table))
