"""Uploads: files that come in parts, and where their parts lie.

Revision ID: 0004
"""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE uploads (
    id         uuid PRIMARY KEY,
    owner      text NOT NULL,
    content    uuid NOT NULL,
    name       text,
    metadata   text,
    length     bigint,
    reserved   bigint NOT NULL,
    received   bigint NOT NULL DEFAULT 0,
    parts      integer NOT NULL DEFAULT 0,
    sha256     text,
    media_type text,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    deleted_at timestamptz,
    CONSTRAINT uploads_received CHECK (received BETWEEN 0 AND reserved),
    CONSTRAINT uploads_length CHECK (length IS NULL OR length = reserved),
    CONSTRAINT uploads_complete CHECK (sha256 IS NULL OR (received = length AND media_type IS NOT NULL))
);
CREATE INDEX uploads_list ON uploads (owner, id DESC) WHERE deleted_at IS NULL;
CREATE INDEX uploads_equal ON uploads (owner, sha256) WHERE sha256 IS NOT NULL AND deleted_at IS NULL;
CREATE INDEX uploads_content ON uploads (content);
CREATE INDEX uploads_expiry ON uploads (expires_at) WHERE deleted_at IS NULL;
CREATE INDEX uploads_purge ON uploads (deleted_at) WHERE deleted_at IS NOT NULL;

CREATE TABLE upload_parts (
    upload_id uuid NOT NULL REFERENCES uploads (id) ON DELETE CASCADE,
    start     bigint NOT NULL,
    size      bigint NOT NULL,
    key       text NOT NULL,
    PRIMARY KEY (upload_id, start)
);
"""


def upgrade() -> None:
    op.execute(TABLES)


def downgrade() -> None:
    op.execute("DROP TABLE upload_parts, uploads;")
