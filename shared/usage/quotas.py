"""What an owner may use, checked by the transaction that accepts a job: one row an owner, no look at jobs.

A submit is refused if and only if what is booked at that moment is at or above the quota. GPU seconds are booked when
an attempt ends, so jobs that are accepted below the quota may end above it; stored bytes of a request's own files are
booked with it, so of requests that come at once exactly those below the quota are taken.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

import asyncpg

from shared.errors import QuotaExceeded

BOOKED = """
SELECT o.owner, coalesce(u.stored_bytes, 0) AS stored_bytes,
    CASE WHEN u.gpu_day = (now() AT TIME ZONE 'UTC')::date THEN u.gpu_seconds ELSE 0 END AS gpu_seconds,
    date_trunc('day', now(), 'UTC') + interval '1 day' AS midnight, now() AS now
FROM unnest($1::text[]) AS o(owner) LEFT JOIN usage_now u USING (owner)
"""
# Files go with the janitor, when the results' time is over. Enough of them are gone at the first moment at which all
# that go until then make room; a thousand jobs are looked at.
ROOM_AT = """
SELECT min(gone_at) FROM (
    SELECT gone_at, sum(stored_bytes) OVER (ORDER BY gone_at) AS freed FROM (
        SELECT stored_bytes, CASE WHEN purged = 'marked' THEN purged_at ELSE greatest(purge_after, now()) END
            + make_interval(secs => $3) AS gone_at
        FROM jobs WHERE owner = $1 AND stored_bytes > 0 AND purge_after IS NOT NULL ORDER BY purge_after LIMIT 1000) j
) f WHERE freed > $2
"""


@dataclass(frozen=True, slots=True)
class Quotas:
    """Bytes that may lie in the storage, and seconds a day (UTC) that jobs may hold a device; 0 means no limit."""

    stored_bytes: int = 0
    gpu_seconds: float = 0

    def __bool__(self) -> bool:
        return bool(self.stored_bytes or self.gpu_seconds)


NO_QUOTAS = Quotas()


@dataclass(slots=True)
class Booked:
    """What an owner has used: bytes now, and GPU seconds of this day, which ends at `midnight` (UTC)."""

    owner: str
    stored_bytes: int
    gpu_seconds: float
    midnight: datetime
    now: datetime


async def booked(connection: asyncpg.Connection, owners: Iterable[str]) -> dict[str, Booked]:
    """By owner; zeros for one that has used nothing."""
    return {row["owner"]: Booked(**dict(row)) for row in await connection.fetch(BOOKED, list(owners))}


async def refusal(
    connection: asyncpg.Connection, quotas: Quotas, found: Booked, purge_grace: float
) -> QuotaExceeded | None:
    """Why this owner may submit nothing now, or None. Files are removed `purge_grace` seconds after their time."""
    if quotas.gpu_seconds and found.gpu_seconds >= quotas.gpu_seconds:
        used = round(found.gpu_seconds, 3)
        message = f"Your jobs have used {used:g} of {quotas.gpu_seconds:g} GPU seconds today (UTC)."
        return _exceeded("gpu_seconds", message, used, quotas.gpu_seconds, found, found.midnight)
    if quotas.stored_bytes and found.stored_bytes >= quotas.stored_bytes:
        over = found.stored_bytes - quotas.stored_bytes
        room_at = await connection.fetchval(ROOM_AT, found.owner, over, purge_grace)
        message = f"Your files take {found.stored_bytes} of {quotas.stored_bytes} bytes; delete jobs to make room."
        return _exceeded("stored_bytes", message, found.stored_bytes, quotas.stored_bytes, found, room_at)
    return None


def _exceeded(
    quota: str, message: str, used: float, limit: float, found: Booked, frees_at: datetime | None
) -> QuotaExceeded:
    details = {"quota": quota, "used": used, "limit": limit, "frees_at": frees_at and frees_at.isoformat()}
    if frees_at is None:
        return QuotaExceeded(message, details=details)
    wait = max(1, math.ceil((frees_at - found.now).total_seconds()))
    return QuotaExceeded(message, details=details | {"retry_after": wait}, headers={"Retry-After": str(wait)})
