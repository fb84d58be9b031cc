"""What owners have used. The migration is `migrations/versions/0005_usage.py`; its triggers keep these rows.

They are written by the transaction that moves the job, never by the code that moves it, so nothing can be forgotten.
Whatever else keeps files for an owner has rows with `owner` and `stored_bytes`, and the trigger function
`usage_stored` on its INSERT, UPDATE and DELETE: then the quota counts those files too.
"""

from __future__ import annotations

from datetime import date

from sqlalchemy import BigInteger, Index, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from shared.database import Base

ZERO = text("0")


class UsageNow(Base):
    """What quotas look at: one row an owner. `gpu_seconds` are those of `gpu_day` (UTC), which is the last one used."""

    __tablename__ = "usage_now"

    owner: Mapped[str] = mapped_column(Text, primary_key=True)
    stored_bytes: Mapped[int] = mapped_column(BigInteger)
    gpu_day: Mapped[date]
    gpu_seconds: Mapped[float]


class UsageDay(Base):
    """An owner's jobs of one family by the day (UTC) on which they ended, and what attempts that ended then held."""

    __tablename__ = "usage_days"

    owner: Mapped[str] = mapped_column(Text, primary_key=True)
    day: Mapped[date] = mapped_column(primary_key=True)
    family: Mapped[str] = mapped_column(Text, primary_key=True)
    completed: Mapped[int] = mapped_column(BigInteger, server_default=ZERO)
    failed: Mapped[int] = mapped_column(BigInteger, server_default=ZERO)
    cancelled: Mapped[int] = mapped_column(BigInteger, server_default=ZERO)
    expired: Mapped[int] = mapped_column(BigInteger, server_default=ZERO)
    gpu_seconds: Mapped[float] = mapped_column(server_default=ZERO)
    produced_bytes: Mapped[int] = mapped_column(BigInteger, server_default=ZERO)

    __table_args__ = (Index("usage_days_age", "day"),)


class UsageRequests(Base):
    """An owner's requests of one day (UTC), brought here by the gateways every few seconds."""

    __tablename__ = "usage_requests"

    owner: Mapped[str] = mapped_column(Text, primary_key=True)
    day: Mapped[date] = mapped_column(primary_key=True)
    requests: Mapped[int] = mapped_column(BigInteger)

    __table_args__ = (Index("usage_requests_age", "day"),)
