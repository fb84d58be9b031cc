"""Webhooks: who wants to be told of what, how it is signed, and every delivery."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, Text, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from shared.database import Base
from shared.jobs.table import NOW, ZERO, Time

CASCADE = "CASCADE"


class Webhook(Base):
    """An address that an owner registered for events of all its jobs."""

    __tablename__ = "webhooks"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    owner: Mapped[str] = mapped_column(Text)
    url: Mapped[str] = mapped_column(Text)
    events: Mapped[list[str]] = mapped_column(ARRAY(Text))
    description: Mapped[str] = mapped_column(Text, server_default="")
    created_at: Mapped[datetime] = mapped_column(Time, server_default=NOW)
    updated_at: Mapped[datetime] = mapped_column(Time, server_default=NOW)
    disabled_at: Mapped[datetime | None] = mapped_column(Time)
    disabled_reason: Mapped[str | None] = mapped_column(Text)

    __table_args__ = (
        CheckConstraint("(disabled_at IS NULL) = (disabled_reason IS NULL)", name="disabled"),
        Index("webhooks_owner", "owner", "id"),
    )


class WebhookSecret(Base):
    """What deliveries are signed with. Without `webhook_id` it is the owner's own, for the `webhook_url` of a job.

    At most two hold at a time: while the older one has not expired, both sign.
    """

    __tablename__ = "webhook_secrets"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    owner: Mapped[str] = mapped_column(Text)
    webhook_id: Mapped[UUID | None] = mapped_column(ForeignKey("webhooks.id", ondelete=CASCADE))
    secret: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(Time, server_default=NOW)
    expires_at: Mapped[datetime | None] = mapped_column(Time)

    __table_args__ = (
        Index(
            "webhook_secrets_current",
            "owner",
            "webhook_id",
            unique=True,
            postgresql_nulls_not_distinct=True,
            postgresql_where=text("expires_at IS NULL"),
        ),
        Index("webhook_secrets_webhook", "webhook_id"),
    )


class JobWebhook(Base):
    """The `webhook_url` of one job."""

    __tablename__ = "job_webhooks"

    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id", ondelete=CASCADE), primary_key=True)
    owner: Mapped[str] = mapped_column(Text)
    url: Mapped[str] = mapped_column(Text)
    events: Mapped[list[str]] = mapped_column(ARRAY(Text))
    disabled_at: Mapped[datetime | None] = mapped_column(Time)

    __table_args__ = (Index("job_webhooks_owner", "owner"),)


class Delivery(Base):
    """One event for one receiver. `event_id` is its `webhook-id`, the same in every try.

    `tries` only grows: it is the fence between two senders. `tries_before` is what it was when the schedule last
    began, at the event or when its owner asked for it again.
    """

    __tablename__ = "deliveries"

    event_id: Mapped[UUID] = mapped_column(primary_key=True, server_default=text("gen_random_uuid()"))
    owner: Mapped[str] = mapped_column(Text)
    webhook_id: Mapped[UUID | None] = mapped_column(ForeignKey("webhooks.id", ondelete=CASCADE))
    job_id: Mapped[UUID | None] = mapped_column(ForeignKey("jobs.id", ondelete=CASCADE))
    type: Mapped[str] = mapped_column(Text)
    data: Mapped[dict[str, Any]] = mapped_column(JSONB)
    url: Mapped[str | None] = mapped_column(Text)
    destination: Mapped[str] = mapped_column(Text)
    state: Mapped[str] = mapped_column(Text, server_default="pending")
    tries: Mapped[int] = mapped_column(server_default=ZERO)
    tries_before: Mapped[int] = mapped_column(server_default=ZERO)
    created_at: Mapped[datetime] = mapped_column(Time, server_default=NOW)
    next_at: Mapped[datetime] = mapped_column(Time, server_default=NOW)
    lease_until: Mapped[datetime | None] = mapped_column(Time)
    tried_at: Mapped[datetime | None] = mapped_column(Time)
    finished_at: Mapped[datetime | None] = mapped_column(Time)
    status: Mapped[int | None]
    response: Mapped[str | None] = mapped_column(Text)
    error: Mapped[str | None] = mapped_column(Text)

    __table_args__ = (
        CheckConstraint("state IN ('pending','delivered','undelivered','disabled')", name="state"),
        CheckConstraint("(state = 'pending') = (finished_at IS NULL)", name="finished"),
        CheckConstraint("(webhook_id IS NULL) = (url IS NOT NULL)", name="url"),
        Index("deliveries_due", "destination", "next_at", postgresql_where=text("state = 'pending'")),
        Index("deliveries_leased", "lease_until", postgresql_where=text("state = 'pending'")),
        Index("deliveries_list", "owner", "webhook_id", text("created_at DESC"), text("event_id DESC")),
        Index("deliveries_webhook", "webhook_id"),
        Index("deliveries_job", "job_id"),
        Index("deliveries_age", "finished_at"),
        Index(
            "deliveries_once",
            "job_id",
            "webhook_id",
            "type",
            unique=True,
            postgresql_nulls_not_distinct=True,
            postgresql_where=text("job_id IS NOT NULL AND type <> 'job.progress'"),
        ),
        Index(
            "deliveries_progress",
            "job_id",
            "webhook_id",
            unique=True,
            postgresql_nulls_not_distinct=True,
            postgresql_where=text("type = 'job.progress' AND state = 'pending' AND tries = 0"),
        ),
    )
