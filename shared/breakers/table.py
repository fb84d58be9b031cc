"""Crashes by model and incidents by device, for as long as a rule counts them, and what they led to."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import Index, Text, text
from sqlalchemy.dialects.postgresql import TIMESTAMP
from sqlalchemy.orm import Mapped, mapped_column

from shared.database import Base

Time = TIMESTAMP(timezone=True)
NOW = text("now()")


class ModelCrash(Base):
    """A job whose attempt crashed its worker, or whose model did not load: the last time. A trigger writes it."""

    __tablename__ = "model_crashes"

    job_id: Mapped[UUID] = mapped_column(primary_key=True)
    owner: Mapped[str] = mapped_column(Text)
    family: Mapped[str] = mapped_column(Text)
    model: Mapped[str] = mapped_column(Text)
    code: Mapped[str] = mapped_column(Text)
    crashed_at: Mapped[datetime] = mapped_column(Time, server_default=NOW)

    __table_args__ = (Index("model_crashes_age", "crashed_at"),)


class Breaker(Base):
    """A model that was paused at least once. Until `closed_at` nobody claims its jobs but the `probe`.

    `crashed_jobs` opened it, for the `reason` (an error code) of the last of them; `openings` counts the failed probes
    as well. A probe is one job that is let through once `paused_until` is over.
    """

    __tablename__ = "breakers"

    family: Mapped[str] = mapped_column(Text, primary_key=True)
    model: Mapped[str] = mapped_column(Text, primary_key=True)
    reason: Mapped[str] = mapped_column(Text)
    crashed_jobs: Mapped[int]
    openings: Mapped[int] = mapped_column(server_default=text("1"))
    opened_at: Mapped[datetime] = mapped_column(Time, server_default=NOW)
    paused_until: Mapped[datetime] = mapped_column(Time)
    probe: Mapped[UUID | None]
    probed_at: Mapped[datetime | None] = mapped_column(Time)
    closed_at: Mapped[datetime | None] = mapped_column(Time)


class DeviceIncident(Base):
    """How one worker's child ended on a device: by a `fault` of the device, or by a `crash` while it ran this job."""

    __tablename__ = "device_incidents"

    worker: Mapped[str] = mapped_column(Text, primary_key=True)
    host: Mapped[str] = mapped_column(Text)
    device: Mapped[str] = mapped_column(Text)
    kind: Mapped[str] = mapped_column(Text)
    job_id: Mapped[UUID]
    owner: Mapped[str] = mapped_column(Text)
    family: Mapped[str] = mapped_column(Text)
    model: Mapped[str] = mapped_column(Text)
    happened_at: Mapped[datetime] = mapped_column(Time, server_default=NOW)

    __table_args__ = (Index("device_incidents_place", "host", "device", "happened_at"),)


class Quarantine(Base):
    """A device of a host that was set aside: no worker on it claims anything until `until`."""

    __tablename__ = "quarantines"

    host: Mapped[str] = mapped_column(Text, primary_key=True)
    device: Mapped[str] = mapped_column(Text, primary_key=True)
    reason: Mapped[str] = mapped_column(Text)
    since: Mapped[datetime] = mapped_column(Time, server_default=NOW)
    until: Mapped[datetime] = mapped_column(Time)
