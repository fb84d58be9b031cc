"""Days of usage (asyncpg): what owners read of theirs, and the requests that gateways add."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

import asyncpg

from shared.wall import acting_for

# One order everywhere: two gateways that add for the same owners must not wait for each other crosswise.
ADD_REQUESTS = """
INSERT INTO usage_requests AS u (owner, day, requests)
SELECT owner, (now() AT TIME ZONE 'UTC')::date, requests FROM unnest($1::text[], $2::bigint[]) AS n(owner, requests)
ORDER BY owner
ON CONFLICT (owner, day) DO UPDATE SET requests = u.requests + excluded.requests
"""
REQUESTS = "SELECT day, requests FROM usage_requests WHERE owner = $1 AND day BETWEEN $2 AND $3 ORDER BY day"
JOBS = """
SELECT day, family, completed, failed, cancelled, expired, gpu_seconds, produced_bytes FROM usage_days
WHERE owner = $1 AND day BETWEEN $2 AND $3 ORDER BY day, family
"""
LIVE = "SELECT count(*) FROM jobs WHERE owner = $1 AND state IN ('queued','running')"


@dataclass(frozen=True, slots=True)
class FamilyDay:
    """Jobs of one family that ended on this day, the GPU seconds of attempts that ended then, bytes of results."""

    day: date
    family: str
    completed: int
    failed: int
    cancelled: int
    expired: int
    gpu_seconds: float
    produced_bytes: int


class UsageDays:
    """Reads and additions."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def add_requests(self, counts: Mapping[str, int]) -> None:
        """So many more requests of each owner today; raises what asyncpg raises."""
        async with acting_for(self._pool, counts) as db:
            await db.execute(ADD_REQUESTS, list(counts), list(counts.values()))

    async def requests(self, owner: str, first: date, last: date) -> dict[date, int]:
        """By day, for the days that have any."""
        async with acting_for(self._pool, [owner]) as db:
            return {row["day"]: row["requests"] for row in await db.fetch(REQUESTS, owner, first, last)}

    async def jobs(self, owner: str, first: date, last: date) -> list[FamilyDay]:
        """In order of days and families."""
        async with acting_for(self._pool, [owner]) as db:
            return [FamilyDay(**dict(row)) for row in await db.fetch(JOBS, owner, first, last)]

    async def live_jobs(self, owner: str) -> int:
        async with acting_for(self._pool, [owner]) as db:
            return int(await db.fetchval(LIVE, owner))
