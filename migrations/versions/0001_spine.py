"""The spine: jobs, idempotency keys, deliveries, workers, models.

Revision ID: 0001
"""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE jobs (
    id                  uuid PRIMARY KEY,
    owner               text NOT NULL,
    family              text NOT NULL,
    operation           text NOT NULL,
    input               jsonb NOT NULL,
    state               text NOT NULL DEFAULT 'queued',
    priority            smallint NOT NULL DEFAULT 0,
    turn                bigint NOT NULL,
    run_after           timestamptz NOT NULL DEFAULT now(),
    deadline_at         timestamptz,
    dispatched_at       timestamptz,
    dispatch_no         integer NOT NULL DEFAULT 0,
    attempt             integer NOT NULL DEFAULT 0,
    lease_owner         text,
    lease_expires_at    timestamptz,
    started_at          timestamptz,
    attempt_started_at  timestamptz,
    progress            jsonb,
    cancel_requested_at timestamptz,
    failures            integer NOT NULL DEFAULT 0,
    crashes             integer NOT NULL DEFAULT 0,
    drains              integer NOT NULL DEFAULT 0,
    error               jsonb,
    errors              jsonb NOT NULL DEFAULT '[]'::jsonb,
    result_attempt      integer,
    output              jsonb,
    manifest            jsonb,
    created_at          timestamptz NOT NULL DEFAULT now(),
    finished_at         timestamptz,
    purge_after         timestamptz,
    purged              text,
    purged_at           timestamptz,
    deleted_at          timestamptz,
    CONSTRAINT jobs_state CHECK (state IN ('queued','running','completed','failed','cancelled','expired')),
    CONSTRAINT jobs_priority CHECK (priority BETWEEN 0 AND 9),
    CONSTRAINT jobs_lease CHECK ((state = 'running') = (lease_expires_at IS NOT NULL)),
    CONSTRAINT jobs_result CHECK ((state = 'completed') = (result_attempt IS NOT NULL)),
    CONSTRAINT jobs_finished CHECK ((state IN ('queued','running')) = (finished_at IS NULL)),
    CONSTRAINT jobs_purged CHECK (purged IN ('marked','done'))
);
CREATE INDEX jobs_order ON jobs (family, priority DESC, turn, id) WHERE state = 'queued';
CREATE INDEX jobs_turns ON jobs (family, priority, owner, turn) WHERE state = 'queued';
CREATE INDEX jobs_live ON jobs (owner) WHERE state IN ('queued','running');
CREATE INDEX jobs_deadlines ON jobs (deadline_at) WHERE state = 'queued';
CREATE INDEX jobs_leases ON jobs (lease_expires_at) WHERE state = 'running';
CREATE INDEX jobs_purge ON jobs (purge_after) WHERE purged IS NULL AND purge_after IS NOT NULL;
CREATE INDEX jobs_purge_marked ON jobs (purged_at) WHERE purged = 'marked';
CREATE INDEX jobs_list ON jobs (owner, id DESC);
CREATE INDEX jobs_retried ON jobs (finished_at) WHERE attempt > 1;
-- A queue table churns: vacuum by count of dead rows, not by share of the table.
ALTER TABLE jobs SET (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000, fillfactor = 90);

CREATE TABLE idempotency_keys (
    owner       text NOT NULL,
    key         text NOT NULL,
    fingerprint bytea NOT NULL,
    job_id      uuid NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (owner, key)
);
CREATE INDEX idempotency_keys_age ON idempotency_keys (created_at);

CREATE TABLE deliveries (
    event_id   uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    job_id     uuid NOT NULL UNIQUE REFERENCES jobs (id) ON DELETE CASCADE,
    state      text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE workers (
    name       text PRIMARY KEY,
    families   text[] NOT NULL,
    device     text NOT NULL,
    state      text NOT NULL,
    details    jsonb NOT NULL DEFAULT '{}'::jsonb,
    started_at timestamptz NOT NULL DEFAULT now(),
    seen_at    timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE models (
    family      text NOT NULL,
    kind        text NOT NULL,
    name        text NOT NULL,
    title       text NOT NULL,
    details     jsonb NOT NULL DEFAULT '{}'::jsonb,
    reported_by text NOT NULL,
    seen_at     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (family, kind, name)
);
"""

GUARD = """
CREATE FUNCTION jobs_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.state <> OLD.state AND NOT (
        (OLD.state = 'queued' AND NEW.state IN ('running','cancelled','expired'))
        OR (OLD.state = 'running' AND NEW.state IN ('queued','completed','failed','cancelled','expired'))
    ) THEN
        RAISE EXCEPTION 'job % cannot go from % to %', OLD.id, OLD.state, NEW.state USING ERRCODE = 'check_violation';
    END IF;
    IF NEW.attempt < OLD.attempt OR NEW.attempt > OLD.attempt + 1 THEN
        RAISE EXCEPTION 'job % attempt % cannot become %', OLD.id, OLD.attempt, NEW.attempt
            USING ERRCODE = 'check_violation';
    END IF;
    IF OLD.finished_at IS NOT NULL AND (
        NEW.result_attempt IS DISTINCT FROM OLD.result_attempt
        OR NEW.attempt <> OLD.attempt
        OR NEW.finished_at <> OLD.finished_at
        OR NEW.manifest IS DISTINCT FROM OLD.manifest
        OR NEW.output IS DISTINCT FROM OLD.output
    ) THEN
        RAISE EXCEPTION 'job % is %: its result cannot change', OLD.id, OLD.state USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER jobs_guard BEFORE UPDATE ON jobs FOR EACH ROW EXECUTE FUNCTION jobs_guard();

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
    op.execute(GUARD)


def downgrade() -> None:
    op.execute("DROP TABLE models, workers, deliveries, idempotency_keys, jobs; DROP FUNCTION jobs_guard, jobs_event;")
