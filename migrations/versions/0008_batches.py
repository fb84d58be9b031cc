"""Batches: which queued jobs may run as one, how many ran as one, and each one's share of the device's time.

Starts and ends of jobs that nobody is told of cost less.

Revision ID: 0008
"""

from __future__ import annotations

from alembic import op
from sqlalchemy import text

from migrations.walls import GATEWAY

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

# Jobs without a key are in neither index: their submits and claims cost what they cost before.
COLUMNS = """
ALTER TABLE jobs ADD COLUMN batch_key text, ADD COLUMN batch_size smallint NOT NULL DEFAULT 1,
    ADD CONSTRAINT jobs_batch_size CHECK (batch_size > 0);
CREATE INDEX jobs_batches ON jobs (family, batch_key, priority DESC, turn, id)
    WHERE state = 'queued' AND batch_key IS NOT NULL;
"""

# A request that waits ends its job itself when its time has come, and says why.
GRANTS = f"GRANT INSERT (batch_key), UPDATE (error) ON jobs TO {GATEWAY}"
REVOKED = f"REVOKE INSERT (batch_key), UPDATE (error) ON jobs FROM {GATEWAY}"

# As in 0005, but for `held`.
USAGE = """
CREATE OR REPLACE FUNCTION jobs_usage() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, {schema}, pg_temp AS $$
DECLARE
    more bigint := NEW.stored_bytes - OLD.stored_bytes;
    held double precision := 0;
    ended boolean := OLD.finished_at IS NULL AND NEW.finished_at IS NOT NULL;
BEGIN
    IF OLD.state = 'running' AND NEW.state <> 'running' THEN
        held := {held};
    END IF;
    PERFORM usage_book(NEW.owner, more, held);
    IF ended OR held > 0 THEN
        INSERT INTO usage_days AS u
            (owner, day, family, completed, failed, cancelled, expired, gpu_seconds, produced_bytes)
        VALUES (NEW.owner, (now() AT TIME ZONE 'UTC')::date, NEW.family,
            (ended AND NEW.state = 'completed')::int, (ended AND NEW.state = 'failed')::int,
            (ended AND NEW.state = 'cancelled')::int, (ended AND NEW.state = 'expired')::int,
            held, CASE WHEN ended AND NEW.state = 'completed' THEN more ELSE 0 END)
        ON CONFLICT (owner, day, family) DO UPDATE SET
            completed = u.completed + excluded.completed, failed = u.failed + excluded.failed,
            cancelled = u.cancelled + excluded.cancelled, expired = u.expired + excluded.expired,
            gpu_seconds = u.gpu_seconds + excluded.gpu_seconds,
            produced_bytes = u.produced_bytes + excluded.produced_bytes;
    END IF;
    RETURN NULL;
END $$;
"""

# Of a lost worker nobody knows when it let go; it held the job no longer than its lease. Not every lost worker counts
# as a crash, so the attempt's error tells. The jobs of a batch held the device together: each for its share.
HELD = """greatest(0, extract(epoch FROM CASE
            WHEN NEW.error ->> 'code' = 'worker_lost' AND (NEW.error ->> 'attempt')::int = OLD.attempt
            THEN least(now(), OLD.lease_expires_at) ELSE now() END - OLD.attempt_started_at)) / OLD.batch_size"""
HELD_BEFORE = """greatest(0, extract(epoch FROM CASE WHEN NEW.crashes > OLD.crashes
            THEN least(now(), OLD.lease_expires_at) ELSE now() END - OLD.attempt_started_at))"""

# As in 0003, but that an owner without webhooks and a job without an address cost two look-ups and nothing more: where
# no receiver is, no event of one can wait either.
EVENTS = """
CREATE OR REPLACE FUNCTION jobs_event() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, {schema}, pg_temp AS $$
DECLARE
    event text := CASE TG_ARGV[0] WHEN 'ended' THEN 'job.' || NEW.state ELSE TG_ARGV[0] END;
BEGIN
    {first}IF TG_ARGV[0] = 'ended' THEN
        DELETE FROM deliveries
        WHERE job_id = NEW.id AND type = 'job.progress' AND state = 'pending' AND tries = 0;
    END IF;
    INSERT INTO deliveries (owner, webhook_id, job_id, type, destination, url, data)
    SELECT NEW.owner, receiver.webhook_id, NEW.id, event, receiver.destination, receiver.url, jsonb_build_object(
        'job_id', NEW.id, 'family', NEW.family, 'operation', NEW.operation, 'status', NEW.state,
        'attempt', NEW.attempt,
        'progress', CASE NEW.state WHEN 'completed' THEN 100 ELSE coalesce((NEW.progress ->> 'progress')::float8, 0) END,
        'created_at', NEW.created_at, 'started_at', NEW.started_at, 'finished_at', NEW.finished_at,
        'error', CASE WHEN NEW.state IN ('failed', 'expired')
            THEN jsonb_build_object('code', NEW.error -> 'code', 'message', NEW.error -> 'message') END)
    FROM (
        SELECT id AS webhook_id, id::text AS destination, NULL AS url FROM webhooks
        WHERE owner = NEW.owner AND disabled_at IS NULL AND event = ANY(events)
        UNION ALL
        SELECT NULL, owner || ' ' || url, url FROM job_webhooks
        WHERE job_id = NEW.id AND disabled_at IS NULL AND event = ANY(events)
    ) receiver
    WHERE event <> 'job.progress' OR NOT EXISTS (
        SELECT 1 FROM deliveries told
        WHERE told.job_id = NEW.id AND told.webhook_id IS NOT DISTINCT FROM receiver.webhook_id
            AND told.type = 'job.progress' AND told.tries > 0 AND told.created_at > now() - interval '10 seconds')
    ON CONFLICT (job_id, webhook_id) WHERE type = 'job.progress' AND state = 'pending' AND tries = 0
        DO UPDATE SET data = EXCLUDED.data;
    IF FOUND THEN
        PERFORM pg_notify('atelier_webhooks', '');
    END IF;
    RETURN NULL;
END $$;
"""
FIRST = """IF NOT EXISTS (SELECT FROM webhooks WHERE owner = NEW.owner)
        AND NOT EXISTS (SELECT FROM job_webhooks WHERE job_id = NEW.id) THEN
        RETURN NULL;
    END IF;
    """


def upgrade() -> None:
    op.execute(COLUMNS)
    op.execute(GRANTS)
    op.execute(USAGE.format(schema=_schema(), held=HELD))
    op.execute(EVENTS.format(schema=_schema(), first=FIRST))


def downgrade() -> None:
    op.execute(EVENTS.format(schema=_schema(), first=""))
    op.execute(USAGE.format(schema=_schema(), held=HELD_BEFORE))
    op.execute(REVOKED)
    op.execute("ALTER TABLE jobs DROP COLUMN batch_key, DROP COLUMN batch_size;")


def _schema() -> str:
    return str(op.get_bind().execute(text("SELECT quote_ident(current_schema())")).scalar_one())
