"""Breakers: which model a job needs, crashes counted by model and by device, and what is set aside for them.

Revision ID: 0012
"""

from __future__ import annotations

from alembic import op
from sqlalchemy import text

from migrations.walls import BY_OWNER, GATEWAY, wall

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

TABLES = f"""
ALTER TABLE jobs ADD COLUMN model text NOT NULL DEFAULT 'default';
GRANT INSERT (model) ON jobs TO {GATEWAY};

CREATE TABLE model_crashes (
    job_id     uuid PRIMARY KEY,
    owner      text NOT NULL,
    family     text NOT NULL,
    model      text NOT NULL,
    code       text NOT NULL,
    crashed_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX model_crashes_age ON model_crashes (crashed_at);

CREATE TABLE breakers (
    family       text NOT NULL,
    model        text NOT NULL,
    reason       text NOT NULL,
    crashed_jobs integer NOT NULL,
    openings     integer NOT NULL DEFAULT 1,
    opened_at    timestamptz NOT NULL DEFAULT now(),
    paused_until timestamptz NOT NULL,
    probe        uuid,
    probed_at    timestamptz,
    closed_at    timestamptz,
    PRIMARY KEY (family, model)
);
GRANT SELECT, UPDATE (probe, closed_at) ON breakers TO {GATEWAY};

CREATE TABLE device_incidents (
    worker      text PRIMARY KEY,
    host        text NOT NULL,
    device      text NOT NULL,
    kind        text NOT NULL,
    job_id      uuid NOT NULL,
    owner       text NOT NULL,
    family      text NOT NULL,
    model       text NOT NULL,
    happened_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX device_incidents_place ON device_incidents (host, device, happened_at);

CREATE TABLE quarantines (
    host   text NOT NULL,
    device text NOT NULL,
    reason text NOT NULL,
    since  timestamptz NOT NULL DEFAULT now(),
    until  timestamptz NOT NULL,
    PRIMARY KEY (host, device)
);
GRANT SELECT ON quarantines TO {GATEWAY};
"""

# Whichever statement charges a job with a crash, or with a model that does not load, has counted it for the model. A
# job counts once however often it crashes.
CRASHES = """
CREATE FUNCTION jobs_crashed() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, {schema}, pg_temp AS $$
BEGIN
    INSERT INTO model_crashes (job_id, owner, family, model, code)
    VALUES (NEW.id, NEW.owner, NEW.family, NEW.model, coalesce(NEW.error ->> 'code', 'worker_lost'))
    ON CONFLICT (job_id) DO UPDATE SET code = excluded.code, crashed_at = now();
    RETURN NULL;
END $$;
REVOKE ALL ON FUNCTION jobs_crashed FROM PUBLIC;
CREATE TRIGGER jobs_crashed AFTER UPDATE OF crashes, failures ON jobs FOR EACH ROW
    WHEN (NEW.crashes > OLD.crashes
        OR (NEW.failures > OLD.failures AND NEW.error ->> 'code' = 'model_unavailable'))
    EXECUTE FUNCTION jobs_crashed();
"""

GONE = """
DROP TRIGGER jobs_crashed ON jobs; DROP FUNCTION jobs_crashed;
DROP TABLE quarantines, device_incidents, breakers, model_crashes;
ALTER TABLE jobs DROP COLUMN model;
"""


def upgrade() -> None:
    schema = op.get_bind().execute(text("SELECT quote_ident(current_schema())")).scalar_one()
    op.execute(TABLES)
    op.execute(CRASHES.format(schema=schema))
    for table in ("model_crashes", "device_incidents"):
        op.execute(wall(table, BY_OWNER))


def downgrade() -> None:
    op.execute(GONE)
