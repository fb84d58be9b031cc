"""The job row: the only truth about a job. The migration that makes it is `migrations/versions/0001_spine.py`."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, Index, SmallInteger, Text, text
from sqlalchemy.dialects.postgresql import JSONB, TIMESTAMP
from sqlalchemy.orm import Mapped, mapped_column

from shared.database import Base

Time = TIMESTAMP(timezone=True)
NOW = text("now()")
ZERO = text("0")


class Job(Base):
    """One request. All times are Postgres's `now()`, never a host's."""

    __tablename__ = "jobs"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    owner: Mapped[str] = mapped_column(Text)
    family: Mapped[str] = mapped_column(Text)
    operation: Mapped[str] = mapped_column(Text)
    model: Mapped[str] = mapped_column(Text, server_default=text("'default'"))
    input: Mapped[dict[str, Any]] = mapped_column(JSONB)
    state: Mapped[str] = mapped_column(Text, server_default="queued")

    # Order: priority, then the owner's turn (start-time fair queuing), then age.
    priority: Mapped[int] = mapped_column(SmallInteger, server_default=ZERO)
    turn: Mapped[int] = mapped_column(BigInteger)
    run_after: Mapped[datetime] = mapped_column(Time, server_default=NOW)
    deadline_at: Mapped[datetime | None] = mapped_column(Time)
    dispatched_at: Mapped[datetime | None] = mapped_column(Time)
    dispatch_no: Mapped[int] = mapped_column(server_default=ZERO)

    # Queued jobs of a family with equal keys may run as one batch; how many the current attempt runs with, itself too.
    batch_key: Mapped[str | None] = mapped_column(Text)
    batch_size: Mapped[int] = mapped_column(SmallInteger, server_default=text("1"))

    # The current attempt: its number is the fencing token.
    attempt: Mapped[int] = mapped_column(server_default=ZERO)
    lease_owner: Mapped[str | None] = mapped_column(Text)
    lease_expires_at: Mapped[datetime | None] = mapped_column(Time)
    started_at: Mapped[datetime | None] = mapped_column(Time)
    attempt_started_at: Mapped[datetime | None] = mapped_column(Time)
    progress: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    cancel_requested_at: Mapped[datetime | None] = mapped_column(Time)

    # What went wrong, counted and kept: `errors` holds one entry an attempt, `error` the one that ended the job.
    failures: Mapped[int] = mapped_column(server_default=ZERO)
    crashes: Mapped[int] = mapped_column(server_default=ZERO)
    drains: Mapped[int] = mapped_column(server_default=ZERO)
    error: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    errors: Mapped[list[Any]] = mapped_column(JSONB, server_default=text("'[]'::jsonb"))

    # Every attempt that ended, in order (`records.py`).
    attempts: Mapped[list[Any]] = mapped_column(JSONB, server_default=text("'[]'::jsonb"))

    # The result of exactly one attempt.
    result_attempt: Mapped[int | None]
    output: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    manifest: Mapped[list[Any] | None] = mapped_column(JSONB)

    created_at: Mapped[datetime] = mapped_column(Time, server_default=NOW)
    finished_at: Mapped[datetime | None] = mapped_column(Time)
    purge_after: Mapped[datetime | None] = mapped_column(Time)
    purged: Mapped[str | None] = mapped_column(Text)
    purged_at: Mapped[datetime | None] = mapped_column(Time)
    deleted_at: Mapped[datetime | None] = mapped_column(Time)

    # Bytes of its files in the storage: those that came with it and those it made. A trigger books them with the owner.
    stored_bytes: Mapped[int] = mapped_column(BigInteger, server_default=ZERO)

    __table_args__ = (
        CheckConstraint("state IN ('queued','running','completed','failed','cancelled','expired')", name="state"),
        CheckConstraint("priority BETWEEN 0 AND 9", name="priority"),
        CheckConstraint("(state = 'running') = (lease_expires_at IS NOT NULL)", name="lease"),
        CheckConstraint("(state = 'completed') = (result_attempt IS NOT NULL)", name="result"),
        CheckConstraint("(state IN ('queued','running')) = (finished_at IS NULL)", name="finished"),
        CheckConstraint("purged IN ('marked','done')", name="purged"),
        CheckConstraint("batch_size > 0", name="batch_size"),
        Index("jobs_order", "family", text("priority DESC"), "turn", "id", postgresql_where=text("state = 'queued'")),
        Index(
            "jobs_batches",
            "family",
            "batch_key",
            text("priority DESC"),
            "turn",
            "id",
            postgresql_where=text("state = 'queued' AND batch_key IS NOT NULL"),
        ),
        Index("jobs_turns", "family", "priority", "owner", "turn", postgresql_where=text("state = 'queued'")),
        Index("jobs_live", "owner", postgresql_where=text("state IN ('queued','running')")),
        Index("jobs_deadlines", "deadline_at", postgresql_where=text("state = 'queued'")),
        Index("jobs_leases", "lease_expires_at", postgresql_where=text("state = 'running'")),
        Index("jobs_purge", "purge_after", postgresql_where=text("purged IS NULL AND purge_after IS NOT NULL")),
        Index("jobs_purge_marked", "purged_at", postgresql_where=text("purged = 'marked'")),
        Index("jobs_list", "owner", text("id DESC")),
        Index(
            "jobs_orphans",
            "finished_at",
            postgresql_where=text(
                "finished_at IS NOT NULL AND (attempt > 1 OR (attempt = 1 AND result_attempt IS NULL))"
            ),
        ),
        Index("jobs_models", "id", postgresql_where=text("family = 'models'")),
        Index("jobs_stored", "owner", "purge_after", postgresql_where=text("stored_bytes > 0")),
    )


class ArrivingFiles(Base):
    """Files of a request that are stored before its job is committed, which takes this row away."""

    __tablename__ = "arriving_files"

    job_id: Mapped[UUID] = mapped_column(primary_key=True)
    owner: Mapped[str] = mapped_column(Text)
    since: Mapped[datetime] = mapped_column(Time, server_default=NOW)

    __table_args__ = (Index("arriving_files_age", "since"),)


class IdempotencyKey(Base):
    """One `Idempotency-Key` of one owner: the fingerprint of the request and the job it made."""

    __tablename__ = "idempotency_keys"

    owner: Mapped[str] = mapped_column(Text, primary_key=True)
    key: Mapped[str] = mapped_column(Text, primary_key=True)
    fingerprint: Mapped[bytes]
    job_id: Mapped[UUID]
    created_at: Mapped[datetime] = mapped_column(Time, server_default=NOW)

    __table_args__ = (Index("idempotency_keys_age", "created_at"),)
