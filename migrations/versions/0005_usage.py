"""Usage: what owners have stored and used, limits of their own, and tickets for event streams.

Revision ID: 0005
"""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

TABLES = """
ALTER TABLE jobs ADD COLUMN stored_bytes bigint NOT NULL DEFAULT 0;

-- One row is updated by every end of a job: room for the next version of it on its page.
CREATE TABLE usage_now (
    owner        text PRIMARY KEY,
    stored_bytes bigint NOT NULL,
    gpu_day      date NOT NULL,
    gpu_seconds  double precision NOT NULL
) WITH (fillfactor = 50);

CREATE TABLE usage_days (
    owner          text NOT NULL,
    day            date NOT NULL,
    family         text NOT NULL,
    completed      bigint NOT NULL DEFAULT 0,
    failed         bigint NOT NULL DEFAULT 0,
    cancelled      bigint NOT NULL DEFAULT 0,
    expired        bigint NOT NULL DEFAULT 0,
    gpu_seconds    double precision NOT NULL DEFAULT 0,
    produced_bytes bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (owner, day, family)
) WITH (fillfactor = 50);
CREATE INDEX usage_days_age ON usage_days (day);

CREATE TABLE usage_requests (
    owner    text NOT NULL,
    day      date NOT NULL,
    requests bigint NOT NULL,
    PRIMARY KEY (owner, day)
) WITH (fillfactor = 50);
CREATE INDEX usage_requests_age ON usage_requests (day);

ALTER TABLE users
    ADD COLUMN stored_bytes_quota bigint,
    ADD COLUMN gpu_seconds_quota double precision,
    ADD CONSTRAINT users_stored_bytes_quota CHECK (stored_bytes_quota >= 0),
    ADD CONSTRAINT users_gpu_seconds_quota CHECK (gpu_seconds_quota >= 0);
ALTER TABLE api_keys
    ADD COLUMN requests_per_minute integer,
    ADD COLUMN requests_per_day integer,
    ADD CONSTRAINT api_keys_requests_per_minute CHECK (requests_per_minute > 0),
    ADD CONSTRAINT api_keys_requests_per_day CHECK (requests_per_day > 0);

CREATE TABLE stream_tickets (
    ticket_hash bytea PRIMARY KEY,
    job_id      uuid NOT NULL,
    owner       text NOT NULL,
    session_id  uuid REFERENCES sessions (id) ON DELETE CASCADE,
    key_id      uuid REFERENCES api_keys (id) ON DELETE CASCADE,
    expires_at  timestamptz NOT NULL
);
CREATE INDEX stream_tickets_age ON stream_tickets (expires_at);
"""

# What lies in the storage already: the files of results that are not purged, and those that came with their requests.
PRESENT = """
UPDATE jobs SET stored_bytes = f.bytes
FROM (
    SELECT id,
        (SELECT coalesce(sum((entry ->> 'size')::bigint), 0) FROM jsonb_array_elements(manifest) entry)
        + (SELECT coalesce(sum((value ->> 'size')::bigint), 0)
           FROM jsonb_each(CASE WHEN jsonb_typeof(input) = 'object' THEN input ELSE '{}' END)
           WHERE jsonb_typeof(value) = 'object' AND value ?& array['name', 'media_type', 'size', 'sha256', 'source'])
        AS bytes
    FROM jobs WHERE purged IS DISTINCT FROM 'done'
) f
WHERE jobs.id = f.id AND f.bytes > 0;
INSERT INTO usage_now (owner, stored_bytes, gpu_day, gpu_seconds)
SELECT owner, sum(stored_bytes), (now() AT TIME ZONE 'UTC')::date, 0 FROM jobs WHERE stored_bytes > 0 GROUP BY owner;
CREATE INDEX jobs_stored ON jobs (owner, purge_after) WHERE stored_bytes > 0;
"""

BOOKS = """
-- The one place where an owner's counters change. A transaction that began yesterday and waited does not undo today.
CREATE FUNCTION usage_book(who text, bytes bigint, seconds double precision) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO usage_now AS u (owner, stored_bytes, gpu_day, gpu_seconds)
    VALUES (who, bytes, (now() AT TIME ZONE 'UTC')::date, seconds)
    ON CONFLICT (owner) DO UPDATE SET
        stored_bytes = u.stored_bytes + excluded.stored_bytes,
        gpu_day = greatest(u.gpu_day, excluded.gpu_day),
        gpu_seconds = CASE WHEN u.gpu_day > excluded.gpu_day THEN u.gpu_seconds
            WHEN u.gpu_day = excluded.gpu_day THEN u.gpu_seconds + excluded.gpu_seconds
            ELSE excluded.gpu_seconds END;
END $$;

-- For every table that has `owner` and `stored_bytes`: files that come, change and go with a row are booked with it.
CREATE FUNCTION usage_stored() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        PERFORM usage_book(NEW.owner, NEW.stored_bytes, 0);
    ELSIF TG_OP = 'UPDATE' THEN
        PERFORM usage_book(NEW.owner, NEW.stored_bytes - OLD.stored_bytes, 0);
    ELSE
        PERFORM usage_book(OLD.owner, -OLD.stored_bytes, 0);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER jobs_stored_new AFTER INSERT ON jobs FOR EACH ROW
    WHEN (NEW.stored_bytes > 0) EXECUTE FUNCTION usage_stored();
CREATE TRIGGER jobs_stored_gone AFTER DELETE ON jobs FOR EACH ROW
    WHEN (OLD.stored_bytes > 0) EXECUTE FUNCTION usage_stored();

-- An attempt ends, a job ends, or its files change. The owner's row comes first: it is the lock of all the owner's rows.
CREATE FUNCTION jobs_usage() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    more bigint := NEW.stored_bytes - OLD.stored_bytes;
    held double precision := 0;
    ended boolean := OLD.finished_at IS NULL AND NEW.finished_at IS NOT NULL;
BEGIN
    IF OLD.state = 'running' AND NEW.state <> 'running' THEN
        -- Of a lost worker nobody knows when it let go; it held the job no longer than its lease.
        held := greatest(0, extract(epoch FROM CASE WHEN NEW.crashes > OLD.crashes
            THEN least(now(), OLD.lease_expires_at) ELSE now() END - OLD.attempt_started_at));
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
CREATE TRIGGER jobs_usage AFTER UPDATE OF state, stored_bytes ON jobs FOR EACH ROW
    WHEN (OLD.stored_bytes <> NEW.stored_bytes
        OR (OLD.state <> NEW.state AND (OLD.state = 'running' OR NEW.finished_at IS NOT NULL)))
    EXECUTE FUNCTION jobs_usage();
"""

GONE = """
DROP TRIGGER jobs_usage ON jobs; DROP TRIGGER jobs_stored_gone ON jobs; DROP TRIGGER jobs_stored_new ON jobs;
DROP FUNCTION jobs_usage, usage_stored, usage_book;
DROP TABLE stream_tickets, usage_requests, usage_days, usage_now;
ALTER TABLE api_keys DROP COLUMN requests_per_minute, DROP COLUMN requests_per_day;
ALTER TABLE users DROP COLUMN stored_bytes_quota, DROP COLUMN gpu_seconds_quota;
ALTER TABLE jobs DROP COLUMN stored_bytes;
"""


def upgrade() -> None:
    op.execute(TABLES)
    op.execute(PRESENT)
    op.execute(BOOKS)


def downgrade() -> None:
    op.execute(GONE)
