"""Who may ask: users, their sessions and keys. The migrations are 0002_accounts.py and 0005_usage.py."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, BigInteger, CheckConstraint, ForeignKey, Index, Text, text
from sqlalchemy.dialects.postgresql import JSONB, TIMESTAMP
from sqlalchemy.orm import Mapped, mapped_column

from shared.database import Base

Time = TIMESTAMP(timezone=True)
NOW = text("now()")


class User(Base):
    """An owner of jobs. Names and addresses are unique whatever their case."""

    __tablename__ = "users"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    username: Mapped[str] = mapped_column(Text)
    email: Mapped[str] = mapped_column(Text)
    full_name: Mapped[str] = mapped_column(Text)
    password_hash: Mapped[str] = mapped_column(Text)
    roles: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default=text("'{user}'"))
    tier: Mapped[str] = mapped_column(Text, server_default=text("'free'"))
    is_active: Mapped[bool] = mapped_column(server_default=text("true"))
    is_verified: Mapped[bool] = mapped_column(server_default=text("false"))
    details: Mapped[dict[str, Any]] = mapped_column("metadata", JSONB, server_default=text("'{}'::jsonb"))
    created_at: Mapped[datetime] = mapped_column(Time, server_default=NOW)
    last_login: Mapped[datetime | None] = mapped_column(Time)

    # In place of the tier's quotas: NULL is the tier's own, 0 is none.
    stored_bytes_quota: Mapped[int | None] = mapped_column(BigInteger)
    gpu_seconds_quota: Mapped[float | None]

    __table_args__ = (
        CheckConstraint("tier IN ('free','pro','enterprise')", name="tier"),
        CheckConstraint("stored_bytes_quota >= 0", name="stored_bytes_quota"),
        CheckConstraint("gpu_seconds_quota >= 0", name="gpu_seconds_quota"),
        Index("users_username", text("lower(username)"), unique=True),
        Index("users_email", text("lower(email)"), unique=True),
    )


class Session(Base):
    """One sign-in. Its tokens hold while the row is there; `refresh_id` is the only refresh token that still counts."""

    __tablename__ = "sessions"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    refresh_id: Mapped[UUID]
    created_at: Mapped[datetime] = mapped_column(Time, server_default=NOW)
    expires_at: Mapped[datetime] = mapped_column(Time)

    __table_args__ = (Index("sessions_user", "user_id"), Index("sessions_age", "expires_at"))


class ApiKey(Base):
    """A key without its secret: the prefix finds it, the keyed hash proves it. No scopes means all of the owner's."""

    __tablename__ = "api_keys"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    prefix: Mapped[str] = mapped_column(Text, unique=True)
    secret_hash: Mapped[bytes]
    name: Mapped[str] = mapped_column(Text)
    scopes: Mapped[list[str]] = mapped_column(ARRAY(Text))
    created_at: Mapped[datetime] = mapped_column(Time, server_default=NOW)
    expires_at: Mapped[datetime | None] = mapped_column(Time)
    last_used_at: Mapped[datetime | None] = mapped_column(Time)

    # Counted besides the account's own limits.
    requests_per_minute: Mapped[int | None]
    requests_per_day: Mapped[int | None]

    __table_args__ = (
        CheckConstraint("requests_per_minute > 0", name="requests_per_minute"),
        CheckConstraint("requests_per_day > 0", name="requests_per_day"),
        Index("api_keys_user", "user_id"),
    )


class StreamTicket(Base):
    """A stranger with this ticket may follow this job once. It ends with the session or key that asked for it."""

    __tablename__ = "stream_tickets"

    ticket_hash: Mapped[bytes] = mapped_column(primary_key=True)
    job_id: Mapped[UUID]
    owner: Mapped[str] = mapped_column(Text)
    session_id: Mapped[UUID | None] = mapped_column(ForeignKey("sessions.id", ondelete="CASCADE"))
    key_id: Mapped[UUID | None] = mapped_column(ForeignKey("api_keys.id", ondelete="CASCADE"))
    expires_at: Mapped[datetime] = mapped_column(Time)

    __table_args__ = (Index("stream_tickets_age", "expires_at"),)


class Attempts(Base):
    """How often something was tried that must not be tried too often: a password, a registration."""

    __tablename__ = "attempts"

    kind: Mapped[str] = mapped_column(Text, primary_key=True)
    subject: Mapped[str] = mapped_column(Text, primary_key=True)
    count: Mapped[int]
    first_at: Mapped[datetime] = mapped_column(Time, server_default=NOW)
    last_at: Mapped[datetime] = mapped_column(Time, server_default=NOW)

    __table_args__ = (Index("attempts_age", "last_at"),)
