"""Webhooks: addresses, secrets, and one delivery an event and receiver.

Revision ID: 0003
"""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

TABLES = """
DROP TRIGGER jobs_event ON jobs;
DROP FUNCTION jobs_event;
DROP TABLE deliveries;

CREATE TABLE webhooks (
    id              uuid PRIMARY KEY,
    owner           text NOT NULL,
    url             text NOT NULL,
    events          text[] NOT NULL,
    description     text NOT NULL DEFAULT '',
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now(),
    disabled_at     timestamptz,
    disabled_reason text,
    CONSTRAINT webhooks_disabled CHECK ((disabled_at IS NULL) = (disabled_reason IS NULL))
);
CREATE INDEX webhooks_owner ON webhooks (owner, id);

CREATE TABLE webhook_secrets (
    id         uuid PRIMARY KEY,
    owner      text NOT NULL,
    webhook_id uuid REFERENCES webhooks (id) ON DELETE CASCADE,
    secret     text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz
);
CREATE UNIQUE INDEX webhook_secrets_current ON webhook_secrets (owner, webhook_id) NULLS NOT DISTINCT
    WHERE expires_at IS NULL;
CREATE INDEX webhook_secrets_webhook ON webhook_secrets (webhook_id);

CREATE TABLE job_webhooks (
    job_id      uuid PRIMARY KEY REFERENCES jobs (id) ON DELETE CASCADE,
    owner       text NOT NULL,
    url         text NOT NULL,
    events      text[] NOT NULL,
    disabled_at timestamptz
);
CREATE INDEX job_webhooks_owner ON job_webhooks (owner);

CREATE TABLE deliveries (
    event_id     uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    owner        text NOT NULL,
    webhook_id   uuid REFERENCES webhooks (id) ON DELETE CASCADE,
    job_id       uuid REFERENCES jobs (id) ON DELETE CASCADE,
    type         text NOT NULL,
    data         jsonb NOT NULL,
    url          text,
    destination  text NOT NULL,
    state        text NOT NULL DEFAULT 'pending',
    tries        integer NOT NULL DEFAULT 0,
    tries_before integer NOT NULL DEFAULT 0,
    created_at   timestamptz NOT NULL DEFAULT now(),
    next_at      timestamptz NOT NULL DEFAULT now(),
    lease_until  timestamptz,
    tried_at     timestamptz,
    finished_at  timestamptz,
    status       integer,
    response     text,
    error        text,
    CONSTRAINT deliveries_state CHECK (state IN ('pending','delivered','undelivered','disabled')),
    CONSTRAINT deliveries_finished CHECK ((state = 'pending') = (finished_at IS NULL)),
    CONSTRAINT deliveries_url CHECK ((webhook_id IS NULL) = (url IS NOT NULL))
);
CREATE INDEX deliveries_due ON deliveries (destination, next_at) WHERE state = 'pending';
CREATE INDEX deliveries_leased ON deliveries (lease_until) WHERE state = 'pending';
CREATE INDEX deliveries_list ON deliveries (owner, webhook_id, created_at DESC, event_id DESC);
CREATE INDEX deliveries_webhook ON deliveries (webhook_id);
CREATE INDEX deliveries_age ON deliveries (finished_at);
CREATE UNIQUE INDEX deliveries_once ON deliveries (job_id, webhook_id, type) NULLS NOT DISTINCT
    WHERE job_id IS NOT NULL AND type <> 'job.progress';
CREATE UNIQUE INDEX deliveries_progress ON deliveries (job_id, webhook_id) NULLS NOT DISTINCT
    WHERE type = 'job.progress' AND state = 'pending' AND tries = 0;
"""

# The statement that moves a job writes its events, one for each address that wants them: it cannot forget one, and
# `deliveries_once` makes a second one fail. Progress that waits to be told is brought up to date instead of added to,
# is told every ten seconds at most, and is not told any more once the job has ended.
EVENTS = """
CREATE FUNCTION jobs_event() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    event text := CASE TG_ARGV[0] WHEN 'ended' THEN 'job.' || NEW.state ELSE TG_ARGV[0] END;
BEGIN
    IF TG_ARGV[0] = 'ended' THEN
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
CREATE TRIGGER jobs_ended AFTER UPDATE OF state ON jobs FOR EACH ROW
    WHEN (OLD.finished_at IS NULL AND NEW.finished_at IS NOT NULL) EXECUTE FUNCTION jobs_event('ended');
CREATE TRIGGER jobs_started AFTER UPDATE OF state ON jobs FOR EACH ROW
    WHEN (OLD.started_at IS NULL AND NEW.started_at IS NOT NULL) EXECUTE FUNCTION jobs_event('job.started');
CREATE TRIGGER jobs_progress AFTER UPDATE OF progress ON jobs FOR EACH ROW
    WHEN (NEW.state = 'running' AND NEW.progress IS NOT NULL AND NEW.progress IS DISTINCT FROM OLD.progress)
    EXECUTE FUNCTION jobs_event('job.progress');
"""

BEFORE = """
DROP TRIGGER jobs_ended ON jobs;
DROP TRIGGER jobs_started ON jobs;
DROP TRIGGER jobs_progress ON jobs;
DROP FUNCTION jobs_event;
DROP TABLE deliveries, job_webhooks, webhook_secrets, webhooks;
CREATE TABLE deliveries (
    event_id   uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    job_id     uuid NOT NULL UNIQUE REFERENCES jobs (id) ON DELETE CASCADE,
    state      text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE FUNCTION jobs_event() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO deliveries (job_id, state) VALUES (NEW.id, NEW.state);
    RETURN NULL;
END $$;
CREATE TRIGGER jobs_event AFTER UPDATE OF state ON jobs FOR EACH ROW
    WHEN (OLD.finished_at IS NULL AND NEW.finished_at IS NOT NULL) EXECUTE FUNCTION jobs_event();
"""


def upgrade() -> None:
    op.execute(TABLES)
    op.execute(EVENTS)


def downgrade() -> None:
    op.execute(BEFORE)
